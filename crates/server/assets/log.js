// A growing log: whole lines are added, the last one is replaced until it is whole. It stays where the reader is, and
// follows when the reader is at the end.
const MOST = 5000;

export class Log {
  constructor(pane) {
    this.box = pane.querySelector("#log");
    this.lines = this.box.firstElementChild;
    this.partial = null;
  }

  // The box is laid out from its end, so that the end is shown first, with scripts or without.
  static isAtEnd(box) {
    return !box || box.scrollTop > -8;
  }

  take({first, lines, partial}) {
    const stays = !Log.isAtEnd(this.box);
    const before = this.box.scrollHeight;
    for (let gone = document.getElementById(`L${first}`), next; gone; gone = next) {
      next = gone.nextElementSibling;
      gone.remove();
    }
    const fresh = document.createDocumentFragment();
    lines.forEach((html, at) => fresh.append(Log.line(first + at, html)));
    if (partial !== undefined) fresh.append(Log.line(first + lines.length, partial));
    this.lines.append(fresh);
    if (stays) this.box.scrollTop -= this.box.scrollHeight - before;
    else while (this.lines.childElementCount > MOST) this.lines.firstElementChild.remove();
  }

  restart() {
    this.lines.replaceChildren();
  }

  // The server escapes every line; it sends its own tags only.
  static line(number, html) {
    const line = document.createElement("p");
    line.id = `L${number}`;
    line.innerHTML = html;
    const link = document.createElement("a");
    link.href = `#L${number}`;
    link.textContent = number;
    line.prepend(link);
    return line;
  }
}
