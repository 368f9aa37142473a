// Ranking: the table of all rows, sorted and filtered, shown and copied.
class Ranking {
  // chosen is called with the settings of a row.
  constructor(report, chosen) {
    Object.assign(this, { report, chosen });
    const { columns, rows } = report.ranking;
    this.columns = columns;
    const dropped = new Set(columns.filter((name) => /_(low|high)$/.test(name) && columns.includes(name.replace(/_(low|high)$/, ""))));
    const single = (name) => new Set(rows.map((row) => row[columns.indexOf(name)])).size < 2;
    this.shownColumns = columns.filter((name) => !dropped.has(name) && name !== "step" && !(name === "guidance_method" && single(name)));
    this.rows = rows.map((row) => ({ row, texts: this.shownColumns.map((name) => this.text(row, name)) }));
    this.sorted = { column: "rank", rising: true };
    byId("filter").addEventListener("input", () => this.render());
    byId("copy-csv").addEventListener("click", () => this.copy("CSV", this.csv()));
    byId("copy-latex").addEventListener("click", () => this.copy("LaTeX", this.latex()));
    this.render();
  }

  value(row, name) {
    return row[this.columns.indexOf(name)];
  }

  // A cell of the table in words; a value with an interval is one text.
  text(row, name) {
    const value = this.value(row, name), low = this.value(row, `${name}_low`), high = this.value(row, `${name}_high`);
    if (value === null) return "";
    if (typeof value === "boolean") return value ? "yes" : "no";
    if (typeof low === "number") {
      const form = name === "rank" ? String : fixed;
      return `${form(value)} (${form(low)} to ${form(high)})`;
    }
    return String(value).replace(/^-/, "\u2212");
  }

  head(name) {
    return name === "guidance_method" ? this.report.compared : HEADS[name] ?? name;
  }

  // The rows that are shown, in their order.
  get visible() {
    const words = byId("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = this.rows.filter(({ texts }) => {
      const text = texts.join(" ").toLowerCase().replaceAll("\u2212", "-");
      return words.every((word) => text.includes(word));
    });
    const { column, rising } = this.sorted, sign = rising ? 1 : -1;
    return kept.sort((a, b) => sign * compare(this.value(a.row, column), this.value(b.row, column)));
  }

  render() {
    const visible = this.visible, focused = document.activeElement?.dataset?.column;
    const heads = this.shownColumns.map((name) => {
      const here = this.sorted.column === name;
      const order = here ? (this.sorted.rising ? "ascending" : "descending") : "none";
      const arrow = here ? (this.sorted.rising ? " \u25b2" : " \u25bc") : "";
      return element("th", { scope: "col", "aria-sort": order },
        element("button", { type: "button", "data-column": name, onclick: () => this.sortBy(name) },
          this.head(name), element("span", { "aria-hidden": "true" }, arrow)));
    });
    const rows = visible.map(({ row, texts }) => {
      const line = element("tr", {}, ...texts.map((text, at) => element("td", {}, this.shownColumns[at] === "rank"
        ? element("button", { type: "button", "aria-label": `show rank ${text}`, onclick: () => this.show(row) }, text) : text)));
      line.row = row;
      return line;
    });
    byId("ranking").replaceChildren(element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows));
    byId("ranking-status").textContent = `${visible.length} of ${this.rows.length} rows`;
    if (focused) byId("ranking").querySelector(`[data-column="${CSS.escape(focused)}"]`)?.focus();
    if (this.settings) this.mark(this.settings);
  }

  sortBy(name) {
    this.sorted = { column: name, rising: this.sorted.column === name ? !this.sorted.rising : !BEST_FIRST(this.value(this.rows[0].row, name), name) };
    this.render();
  }

  settingsOf(row) {
    return {
      checkpoint: this.report.checkpoints.findIndex((each) => each.name === String(this.value(row, "checkpoint"))),
      method: this.report.methods.indexOf(this.value(row, "guidance_method")),
      weight: this.value(row, "guidance_weight"),
    };
  }

  show(row) {
    this.chosen(this.settingsOf(row));
  }

  // Mark the row with these settings.
  mark(settings) {
    this.settings = settings;
    for (const line of byId("ranking").tBodies[0].rows) {
      const of = this.settingsOf(line.row);
      line.classList.toggle("current", ["checkpoint", "method", "weight"].every((name) => of[name] === settings[name]));
    }
  }

  csv() {
    const quoted = (value) => {
      const text = value === null ? "" : typeof value === "boolean" ? (value ? "True" : "False") : String(value);
      return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return [this.columns, ...this.visible.map(({ row }) => row)].map((row) => `${row.map(quoted).join(",")}\n`).join("");
  }

  latex() {
    const escaped = (text) => text.replaceAll("\u2212", "-").replace(/[\\~^&%$#_{}]/g, (character) =>
      ({ "\\": "\\textbackslash{}", "~": "\\textasciitilde{}", "^": "\\textasciicircum{}" })[character] ?? `\\${character}`);
    const line = (texts) => `${texts.map(escaped).join(" & ")} \\\\`;
    return [
      "\\begin{table}[htbp]", `\\caption{${escaped(`${this.report.name}: ranking; 95 % intervals in parentheses.`)}}`,
      `\\begin{tabular}{${"l".repeat(this.shownColumns.length)}}`, "\\toprule",
      line(this.shownColumns.map((name) => this.head(name))), "\\midrule",
      ...this.visible.map(({ texts }) => line(texts)), "\\bottomrule", "\\end{tabular}", "\\end{table}", "",
    ].join("\n");
  }

  async copy(kind, text) {
    const rows = `${this.visible.length} row${this.visible.length === 1 ? "" : "s"}`, area = byId("copied");
    area.hidden = true;
    try {
      await navigator.clipboard.writeText(text);
      byId("ranking-status").textContent = `copied ${rows} as ${kind}`;
    } catch {  // a browser may refuse the clipboard to a page from disk
      area.hidden = false;
      area.value = text;
      area.select();
      const done = document.execCommand("copy");
      byId("ranking-status").textContent = done ? `copied ${rows} as ${kind}` : `copy the ${kind} below: ${rows}`;
      area.hidden = done;
    }
  }
}

const HEADS = {
  tied_with_best: "tied", guidance_weight: "w", guidance_scale: "s",
  effective_guidance_scale: "effective s", guidance_warning: "warning", behind_best: "behind best",
};

// Accuracies begin with the highest, everything else with the lowest.
function BEST_FIRST(value, name) {
  return typeof value === "number" && !["rank", "epoch", "guidance_weight", "guidance_scale", "behind_best"].includes(name);
}

function compare(a, b) {
  if (a === null || b === null) return (a === null) - (b === null);
  return typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
}
