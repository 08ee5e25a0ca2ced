// Talks to the server; a refusal becomes an Error with the server's own words.

async function answer(response) {
  if (response.ok) return response;
  let text = `${response.status} ${response.statusText}`;
  try {
    text = (await response.json()).error || text;
  } catch {
    /* not JSON */
  }
  throw Object.assign(new Error(text), {status: response.status});
}

async function request(path, options) {
  try {
    return await answer(await fetch(path, options));
  } catch (error) {
    if (error instanceof TypeError) throw new Error("the server does not answer: is it still running?");
    throw error;
  }
}

/** GET as JSON; `query` as {name: value or [values]}. */
export async function get(path, query = {}, signal) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(query))
    for (const each of [value].flat()) if (each !== undefined && each !== null) search.append(name, each);
  const text = search.toString();
  return (await request(path + (text ? `?${text}` : ""), {signal})).json();
}

/** POST of JSON, answered with JSON. */
export async function post(path, content = {}) {
  const headers = {"X-Jaxseg": "1", "Content-Type": "application/json"};
  return (await request(path, {method: "POST", headers, body: JSON.stringify(content)})).json();
}

/** POST of bytes; the whole response. */
export const send = (path, body, signal) =>
  request(path, {method: "POST", headers: {"X-Jaxseg": "1"}, body, signal});

/** A run's name within an address: its slashes stay. */
export function run(name) {
  const parts = name.split("/");
  // A browser would resolve these and ask for something else.
  if (parts.some(p => ["", ".", ".."].includes(p))) throw new Error(`there is no run '${name}'`);
  return `/api/runs/${parts.map(encodeURIComponent).join("/")}`;
}
