// A form made from a tool's input schema, over the exact values of a call: what is not touched stays the very text it was.

import { el } from "./dom.js";
import { Exact, INTEGER, NUMBER, parse, write } from "./exact.js";

const DEEPEST = 8; // Deeper, and a field has no room left on a phone: there it is edited as JSON.
const MOST_ITEMS = 60; // More fields than people go through one by one.
const LONG_TEXT = 60; // About what a line holds; longer texts get several lines.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cn}\p{Zl}\p{Zp}\u034f\u115f\u1160\u2800\u3164\uffa0]|[^\S \n\t]/gu;

/** A text of the agent's or the upstream's on one line, with what cannot be seen spelled out. */
export const visible = (text) => text.replace(/\s/g, (one) => (one === " " ? one : codeOf(one))).replace(UNSEEN, codeOf);
const codeOf = (one) => `⟦U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟧`;

/** A path as the gateway writes it. */
const step = (name) => (typeof name === "number" ? `[${name}]` : /^[\p{L}_][\p{L}\p{N}_]*$/u.test(name) ? `.${name}` : `[${JSON.stringify(name)}]`);

/** What is wrong with what stands in a field. */
export class Wrong extends Error {
  constructor(path, message) {
    super(message);
    this.path = path;
  }
}

export class Form {
  /** `schema` as `parse` gives it, or null; `onchange()` is called after every change. */
  constructor(schema, value, onchange) {
    this.root = schema;
    this.onchange = onchange;
    this.count = 0;
    this.spots = new Map();
    this.field = this.make(schema, value, "$.arguments", 0);
    this.node = el("div", { class: "form" }, this.field.node);
  }

  /** The arguments as they stand in the form; throws `Wrong`. */
  read() {
    return this.field.read();
  }

  /** Show what is wrong beside the fields it concerns. */
  mark(problems) {
    for (const { input, note } of this.spots.values()) {
      note.textContent = "";
      input.removeAttribute("aria-invalid");
    }
    for (const { path, message } of problems) {
      const spot = this.spots.get(path);
      if (!spot) continue;
      spot.note.textContent = message;
      spot.input.setAttribute("aria-invalid", "true");
    }
  }

  changed() {
    this.onchange();
  }

  make(written, value, path, depth) {
    const schema = this.resolved(written, value);
    const kind = kindOf(value);
    const choices = choicesOf(schema);
    if (choices) return this.choice(choices, value, path);
    if (depth > DEEPEST || !fits(schema, kind) || (value?.length > MOST_ITEMS && kind === "array") || value?.size > MOST_ITEMS) return this.json(schema, value, path, depth, false);
    if (kind === "array") return this.array(schema, value, path, depth);
    if (kind === "object") return this.object(schema, value, path, depth);
    if (kind === "boolean") return this.choice([true, false], value, path);
    if (kind === "string") return this.text(value, path);
    return kind === "number" ? this.number(schema, value, path) : this.json(schema, value, path, depth, false);
  }

  /** A schema with its local reference followed, and of an optional value's two schemas the one that fits. */
  resolved(written, value) {
    let schema = written;
    for (let hops = 0; schema instanceof Map && hops < 20; hops += 1) {
      const reference = schema.get("$ref");
      const other = (schema.get("anyOf") ?? schema.get("oneOf"))?.filter?.((one) => one?.get?.("type") !== "null");
      if (typeof reference === "string") schema = new Map([...(this.target(reference) ?? [["oneOf", []]]), ...[...schema].filter(([name]) => name !== "$ref")]);
      else if (other?.length === 1 && value !== null) schema = new Map([...[...schema].filter(([name]) => !/^(any|one)Of$/.test(name)), ...(other[0] instanceof Map ? other[0] : [])]);
      else break;
    }
    return schema instanceof Map ? schema : new Map();
  }

  target(reference) {
    if (!reference.startsWith("#/")) return null;
    let node = this.root;
    for (const part of decodeURIComponent(reference.slice(2)).split("/")) node = node instanceof Map ? node.get(part.replaceAll("~1", "/").replaceAll("~0", "~")) : undefined;
    return node instanceof Map ? node : null;
  }

  spot(path, input) {
    const note = el("p", { class: "field-problem", id: `field-${(this.count += 1)}` });
    input.setAttribute("aria-describedby", note.id);
    this.spots.set(path, { input, note });
    return note;
  }

  text(value, path) {
    const long = value.length > LONG_TEXT || /[\n\r]/.test(value);
    const attributes = { spellcheck: "false", autocomplete: "off", dir: "ltr", "aria-label": label(path), "data-path": path };
    const input = long ? el("textarea", { ...attributes, rows: String(Math.min(12, Math.max(3, Math.ceil(value.length / 70)))) }) : el("input", { type: "text", ...attributes });
    input.value = value;
    let touched = false;
    input.addEventListener("input", () => {
      touched = true;
      this.changed();
    });
    const unseen = (value.match(UNSEEN) ?? []).filter((one) => one !== "\n" && one !== "\t").length;
    return { node: el("div", {}, input,
      unseen ? el("p", { class: "warn" }, `It holds ${unseen} ${unseen === 1 ? "character" : "characters"} that cannot be seen here; the difference shows them.`) : null,
      this.spot(path, input)), read: () => (touched ? input.value : value) };
  }

  number(schema, value, path) {
    const whole = schema.get("type") === "integer";
    const input = el("input", { type: "text", inputmode: whole ? "numeric" : "decimal", autocomplete: "off", "aria-label": label(path), "data-path": path, oninput: () => this.changed() });
    input.value = value.text;
    return { node: el("div", {}, input, this.spot(path, input)), read: () => {
      const text = input.value.trim();
      if (!NUMBER.test(text)) throw new Wrong(path, "it is no number");
      if (whole && value.text !== text && !INTEGER.test(text)) throw new Wrong(path, "it is no whole number");
      return new Exact(text);
    } };
  }

  choice(values, value, path) {
    const texts = values.map((one) => write(one));
    const all = texts.includes(write(value)) ? values : [value, ...values];
    const select = el("select", { "aria-label": label(path), "data-path": path, onchange: () => this.changed() },
      ...all.map((one, place) => el("option", { value: String(place) }, typeof one === "string" ? visible(one) || "(empty)" : write(one))));
    select.value = String(all.findIndex((one) => write(one) === write(value)));
    return { node: el("div", {}, select, this.spot(path, select)), read: () => all[Number(select.value)] };
  }

  /** A value as JSON text; `back` where it can be shown as fields again. */
  json(schema, value, path, depth, back) {
    const input = el("textarea", { class: "json", rows: "4", spellcheck: "false", dir: "ltr", "aria-label": `${label(path)}, as JSON`, "data-path": path, oninput: () => this.changed() });
    input.value = write(value, "  ");
    input.rows = Math.min(16, input.value.split("\n").length + 1);
    const before = input.value;
    const read = () => {
      if (input.value === before) return value;
      try {
        return parse(input.value);
      } catch (error) {
        if (error instanceof SyntaxError) throw new Wrong(path, `this is no JSON: ${error.message}`);
        throw error;
      }
    };
    const field = { node: el("div", { class: "as-json" }), read };
    field.node.append(input, this.spot(path, input));
    if (back) field.node.prepend(this.turn("As fields", () => this.swap(field, this.make(schema, read(), path, depth))));
    return field;
  }

  turn(title, act) {
    return el("button", { type: "button", class: "quiet turn", onclick: () => {
      try {
        act();
        this.changed();
      } catch (error) {
        if (!(error instanceof Wrong)) throw error;
        this.mark([{ path: error.path, message: error.message }]);
      }
    } }, title);
  }

  /** Put another field in the place of one; whoever holds the first one reads the other from now on. */
  swap(field, other) {
    field.node.replaceChildren(other.node);
    field.read = () => other.read();
  }

  array(schema, value, path, depth) {
    const items = [];
    const list = el("ol", { class: "items" });
    const schemaOf = (place) => schema.get("prefixItems")?.[place] ?? schema.get("items");
    const add = (item) => {
      const field = this.make(schemaOf(items.length), item, path + step(items.length), depth + 1);
      const row = el("li", {}, field.node, this.turn("Remove", () => {
        const left = items.filter((one) => one.row !== row).map((one) => one.field.read());
        this.swap(whole, this.array(schema, left, path, depth)); // made anew, so that each stands at its true place
      }));
      items.push({ row, field });
      list.append(row);
    };
    const whole = { node: el("div", { class: "composite" }), read: () => items.map((one) => one.field.read()) };
    value.forEach(add);
    const note = this.spot(path, list);
    whole.node.append(list, note, el("div", { class: "more" },
      el("button", { type: "button", class: "quiet", "aria-label": `Add an item to ${label(path)}`, onclick: () => {
        add(empty(this.resolved(schemaOf(items.length)), value.at(-1)));
        this.changed();
      } }, "Add an item"),
      this.turn("As JSON", () => this.swap(whole, this.json(schema, whole.read(), path, depth, true)))));
    return whole;
  }

  object(schema, value, path, depth) {
    const properties = schema.get("properties") instanceof Map ? schema.get("properties") : new Map();
    const required = new Set(schema.get("required") ?? []);
    const fields = new Map();
    const rows = el("div", { class: "members" });
    const add = (name, item) => {
      const of = properties.get(name) ?? schema.get("additionalProperties");
      const field = this.make(of, item, path + step(name), depth + 1);
      const about = properties.get(name)?.get?.("description");
      const remove = el("button", { type: "button", class: "quiet", "aria-label": `Leave out ${visible(name)}`, onclick: () => {
        fields.delete(name);
        row.remove();
        choose();
        this.changed();
      } }, "Leave out");
      const row = el("div", { class: "member" }, el("div", { class: "member-head" }, el("strong", {}, visible(name)), el("span", { class: "muted small" }, properties.has(name) ? (required.has(name) ? "needed" : "") : "not in the schema"),
        required.has(name) ? null : remove), field.node, typeof about === "string" && about ? el("p", { class: "muted small" }, visible(about).slice(0, 300)) : null);
      fields.set(name, field);
      rows.append(row);
    };
    const more = el("div", { class: "more" });
    const asJson = this.turn("As JSON", () => this.swap(field, this.json(schema, field.read(), path, depth, true)));
    const choose = () => {
      const left = [...properties.keys()].filter((name) => !fields.has(name));
      more.replaceChildren(...left.map((name) => el("button", { type: "button", class: "quiet", onclick: () => {
        add(name, empty(this.resolved(properties.get(name))));
        choose();
        this.changed();
      } }, `Add ${visible(name)}`)), asJson);
    };
    for (const [name, item] of value) add(name, item); // in the order of the arguments as they are shown
    choose();
    const field = { node: el("div", { class: "composite" }), read: () => new Map([...fields].map(([name, one]) => [name, one.read()])) };
    const note = this.spot(path, rows);
    field.node.append(rows, more, note);
    return field;
  }
}

const label = (path) => visible(path.replace(/^\$\.arguments\.?/, "")) || "arguments";

function kindOf(value) {
  if (value === null) return "null";
  if (value instanceof Exact) return "number";
  if (value instanceof Map) return "object";
  return Array.isArray(value) ? "array" : typeof value;
}

/** Whether a schema says nothing that a plain field of this kind could not hold. */
function fits(schema, kind) {
  if (["oneOf", "anyOf", "allOf", "not", "if"].some((name) => schema.has(name))) return false;
  const types = [schema.get("type") ?? []].flat();
  return !types.length || types.includes(kind) || (kind === "number" && types.includes("integer"));
}

function choicesOf(schema) {
  const values = schema.has("const") ? [schema.get("const")] : schema.get("enum");
  return Array.isArray(values) && values.length && values.every((one) => one === null || typeof one !== "object" || one instanceof Exact) ? values : null;
}

/** What a new field begins with; where no schema says, an empty one of the kind that stands before it. */
function empty(schema, like) {
  if (schema.has("default")) return schema.get("default");
  const choices = choicesOf(schema);
  if (choices) return choices[0];
  const [type] = [schema.get("type") ?? (like === undefined ? "string" : kindOf(like))].flat();
  if (type === "object") {
    const properties = schema.get("properties") ?? new Map();
    return new Map((schema.get("required") ?? []).map((name) => [name, empty(properties.get(name) ?? new Map())]));
  }
  return { string: "", number: new Exact("0"), integer: new Exact("0"), boolean: false, array: [] }[type] ?? null;
}
