// Words and links that pages share.

export const runLink = name => `#/run/${name.split("/").map(encodeURIComponent).join("/")}`;

/** One word for what a run is doing. */
export function stateOf(run) {
  if (["queued", "running", "stopping"].includes(run.job_state)) return run.job_state;
  if (run.finished) return "finished";
  if (run.job_state === "failed") return "failed";
  if (run.job_state === "stopped") return "stopped";
  return run.live ? "live" : "stopped";
}

/** Titles of groups of metrics, those of report.html; a method may bring its own. */
export const TITLES = {
  "loss/gen": "Loss of the segmenter",
  "loss/disc": "Loss of the discriminator",
  segmentation: "Cross-entropy on the source",
  adversarial: "Adversarial loss on the target",
  target: "Losses on the target",
  accuracy: "Accuracy of the discriminator",
  lr: "Learning rates",
  grad_norm: "Norms of the gradients",
  images_per_second: "Images per second",
  input_wait: "Seconds a step waits for its input",
  depth: "Depth loss on the source",
};

export const CRITERIA = {
  source_miou: "source validation mIoU",
  entropy: "mean entropy",
  agreement: "agreement with the one before",
  neighbourhood_density: "soft neighbourhood density",
  step: "last step (no criterion)",
  miou: "target labels",
};
