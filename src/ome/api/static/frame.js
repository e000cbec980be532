// Drawing at the display's pace: whoever has something new marks himself, and is drawn once in the next frame.

const waiting = new Set();
let isAsked = false;

function ask() {
  if (isAsked || !waiting.size) return;
  isAsked = true;
  requestAnimationFrame(drawAll);
}

function drawAll(now) {
  isAsked = false;
  for (const each of [...waiting]) {
    if (now - each.drawnAt < each.pause) continue;
    waiting.delete(each);
    each.drawnAt = now;
    each.draw();
  }
  ask();
}

/** A function that has `draw` called in the next frame, however often it is called before; `pause` milliseconds apart at least. */
export function painter(draw, pause = 0) {
  const each = { draw, pause, drawnAt: -Infinity };
  return () => {
    waiting.add(each);
    ask();
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
