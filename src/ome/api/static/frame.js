// Drawing at the display's pace: whoever has something new marks himself, and is drawn once in the next frame.

const waiting = new Set();
let isAsked = false;

function drawAll() {
  isAsked = false;
  const turn = [...waiting];
  waiting.clear();
  for (const draw of turn) draw();
}

/** A function that has `draw` called in the next frame, however often it is called before. */
export function painter(draw) {
  return () => {
    waiting.add(draw);
    if (!isAsked) {
      isAsked = true;
      requestAnimationFrame(drawAll);
    }
  };
}

/** A function that has `work` called once, `milliseconds` after the first of its calls. */
export function throttled(work, milliseconds) {
  let timer = 0;
  return () => {
    timer ||= setTimeout(() => {
      timer = 0;
      work();
    }, milliseconds);
  };
}

/** The same, after the last of its calls. */
export function debounced(work, milliseconds) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(work, milliseconds);
  };
}
