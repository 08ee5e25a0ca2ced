// All settings of an experiment, to look one up and put it into a text box.

import {fill, h} from "./dom.js";

/** A value as the text box takes it. */
export const quoted = text => (/[\s#"'\\]/.test(text) ? `'${text.replaceAll("'", `'"'"'`)}'` : text);

/** The table of all settings, to look one up and put it into the text box. */
export function reference(place, settings, box) {
  const words = h("input", {
      type: "search",
      class: "search",
      "aria-label": "Look for a setting",
      placeholder: "Look for a setting",
    }),
    rows = h("tbody");
  const draw = () =>
    fill(
      rows,
      settings
        .filter(s => `${s.key} ${s.comment}`.toLowerCase().includes(words.value.toLowerCase()))
        .map(s =>
          h(
            "tr",
            {},
            h(
              "th",
              {scope: "row"},
              h(
                "button",
                {
                  type: "button",
                  class: "link",
                  title: "put it into the text box",
                  onclick: () => {
                    box.value += `${box.value && !box.value.endsWith("\n") ? "\n" : ""}${s.key}=${quoted(s.value)}`;
                    box.focus();
                  },
                },
                s.key,
              ),
            ),
            h("td", {}, s.value),
            h("td", {class: "remark"}, s.comment),
          ),
        ),
    );
  words.addEventListener("input", draw);
  draw();
  fill(
    place,
    h(
      "details",
      {},
      h("summary", {}, `All ${settings.length} settings`),
      h("div", {class: "bar-row"}, words),
      h(
        "div",
        {class: "scroll tall", tabindex: "0", role: "region", "aria-label": "All settings"},
        h("table", {class: "facts"}, rows),
      ),
    ),
  );
}
