// A terminal as shells and editors need it: a grid of letters, a cursor, and the commonest control sequences (ECMA-48).
"use strict";

class Terminal {
  constructor(place, columns, rows) {
    Object.assign(this, { place, columns, rows, x: 0, y: 0, saved: [0, 0], state: "", typed() {} });
    this.words = new TextDecoder();
    this.clear();
    place.onkeydown = (event) => this.key(event);
    place.onpaste = (event) => (event.preventDefault(), this.typed(event.clipboardData.getData("text")));
    this.draw();
  }

  clear() {
    this.grid = Array.from({ length: this.rows }, () => this.blank());
    this.top = 0;
    this.bottom = this.rows - 1;
  }

  blank() {
    return new Array(this.columns).fill(" ");
  }

  write(bytes) {
    for (const letter of this.words.decode(bytes, { stream: true })) this.take(letter);
    this.draw();
  }

  take(letter) {
    if (this.state) return this.sequence(letter);
    switch (letter) {
      case "\x1b": this.state = letter; return;
      case "\r": this.x = 0; return;
      case "\n": case "\v": case "\f": return this.down();
      case "\b": this.x = Math.max(0, this.x - 1); return;
      case "\t": this.x = Math.min(this.columns - 1, (this.x | 7) + 1); return;
    }
    if (letter < " " || letter === "\x7f") return;
    if (this.x === this.columns) (this.x = 0), this.down();
    this.grid[this.y][this.x++] = letter;
  }

  down() {
    if (this.y !== this.bottom) this.y = Math.min(this.rows - 1, this.y + 1);
    else this.scroll(this.top, 1);
  }

  // Lines from `first` to the end of the region go up (or, by less than none, down).
  scroll(first, count) {
    for (let i = 0; i < Math.min(Math.abs(count), this.rows); i++) {
      this.grid.splice(count > 0 ? first : this.bottom, 1);
      this.grid.splice(count > 0 ? this.bottom : first, 0, this.blank());
    }
  }

  sequence(letter) {
    this.state += letter;
    const kind = this.state[1];
    if (kind === "]") {
      // A title, up to its end: none is shown.
      if (letter === "\x07" || this.state.endsWith("\x1b\\") || this.state.length > 4096) this.state = "";
    } else if (kind === "[") {
      if (letter < "@" || letter > "~" || this.state.length === 2) return void (this.state.length > 64 && (this.state = ""));
      const text = this.state.slice(2, -1);
      this.state = "";
      if (!/[?>=!]/.test(text)) this.control(letter, text.split(";").map((n) => Math.min(parseInt(n, 10) || 0, 9999)));
    } else if ("()#% ".includes(kind)) {
      if (this.state.length > 2) this.state = "";
    } else {
      this.state = "";
      if (kind === "7") this.saved = [this.x, this.y];
      if (kind === "8") [this.x, this.y] = this.saved;
      if (kind === "D") this.down();
      if (kind === "M") this.y === this.top ? this.scroll(this.top, -1) : (this.y = Math.max(0, this.y - 1));
      if (kind === "c") this.clear(), (this.x = this.y = 0);
    }
  }

  control(letter, [first = 0, second = 0]) {
    const n = Math.max(1, first), row = this.grid[this.y], at = Math.min(this.x, this.columns - 1);
    const go = (x, y) => {
      this.x = Math.max(0, Math.min(this.columns - 1, x));
      this.y = Math.max(0, Math.min(this.rows - 1, y));
    };
    switch (letter) {
      case "A": return go(this.x, this.y - n);
      case "B": return go(this.x, this.y + n);
      case "C": return go(at + n, this.y);
      case "D": return go(at - n, this.y);
      case "E": return go(0, this.y + n);
      case "F": return go(0, this.y - n);
      case "G": return go(n - 1, this.y);
      case "d": return go(this.x, n - 1);
      case "H": case "f": return go(Math.max(1, second) - 1, n - 1);
      case "J":
        for (let y = 0; y < this.rows; y++) if (first === 2 || first === 3 || (first ? y < this.y : y > this.y)) this.grid[y] = this.blank();
        if (first > 1) return;
      // The rest of its own line, too.
      case "K": return void (first === 0 ? row.fill(" ", at) : first === 1 ? row.fill(" ", 0, at + 1) : row.fill(" "));
      case "L": return void (this.y >= this.top && this.y <= this.bottom && this.scroll(this.y, -n));
      case "M": return void (this.y >= this.top && this.y <= this.bottom && this.scroll(this.y, n));
      case "P": row.splice(at, n); while (row.length < this.columns) row.push(" "); return;
      case "@": row.splice(at, 0, ...this.blank().slice(0, n)); row.length = this.columns; return;
      case "X": return void row.fill(" ", at, at + n);
      case "S": return this.scroll(this.top, n);
      case "T": return this.scroll(this.top, -n);
      case "s": this.saved = [this.x, this.y]; return;
      case "u": [this.x, this.y] = this.saved; return;
      case "r":
        this.top = Math.min(n, this.rows) - 1;
        this.bottom = Math.min(second || this.rows, this.rows) - 1;
        if (this.bottom <= this.top) (this.top = 0), (this.bottom = this.rows - 1);
        return go(0, 0);
      case "n": return void (first === 6 && this.typed(`\x1b[${this.y + 1};${at + 1}R`));
    }
  }

  draw() {
    const lines = this.grid.map((row) => row.join("")), cursor = document.createElement("span");
    const at = Math.min(this.x, this.columns - 1);
    cursor.className = "cursor";
    cursor.textContent = this.grid[this.y][at];
    const before = this.grid[this.y].slice(0, at).join(""), after = this.grid[this.y].slice(at + 1).join("");
    const above = lines.slice(0, this.y).map((l) => l + "\n").join("");
    this.place.replaceChildren(above + before, cursor, after + lines.slice(this.y + 1).map((l) => "\n" + l).join(""));
  }

  key(event) {
    const keys = {
      Enter: "\r", Backspace: "\x7f", Tab: "\t", Escape: "\x1b", Delete: "\x1b[3~", Home: "\x1b[H", End: "\x1b[F",
      ArrowUp: "\x1b[A", ArrowDown: "\x1b[B", ArrowRight: "\x1b[C", ArrowLeft: "\x1b[D", PageUp: "\x1b[5~", PageDown: "\x1b[6~",
    };
    let text = keys[event.key] || (event.key.length === 1 ? event.key : "");
    if (event.metaKey || !text || (event.ctrlKey && event.shiftKey)) return;
    if (event.ctrlKey && /^[a-z@[\\\]^_ ]$/i.test(text)) text = String.fromCharCode(text.toUpperCase().charCodeAt(0) & 31);
    if (event.altKey) text = "\x1b" + text;
    event.preventDefault();
    this.typed(text);
  }
}
