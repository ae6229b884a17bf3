// JSON read and written without a JavaScript number in between: a number stays the text it was. Objects are Maps.

/** A number as it is written. */
export class Exact {
  constructor(text) {
    this.text = text;
  }
}

export const NUMBER = /^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$/;
export const INTEGER = /^-?(0|[1-9][0-9]*)$/;
const TOKEN = /[ \t\r\n]*("(?:[^"\\\u0000-\u001f]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null|[{}[\],:])[ \t\r\n]*/y;
const WORDS = { true: true, false: false, null: null };

/** A JSON text as strings, booleans, null, Exact, arrays and Maps; throws a SyntaxError that says what is wrong. */
export function parse(text) {
  const tokens = tokensOf(text);
  let place = 0;
  const next = () => tokens[place++];
  const wrong = (token) => new SyntaxError(token === undefined ? "it ends too early" : `\`${token.slice(0, 40)}\` does not belong there`);
  const value = (token) => {
    if (token === "{") return object();
    if (token === "[") return list();
    if (token?.startsWith('"')) return JSON.parse(token);
    if (token in WORDS) return WORDS[token];
    if (token !== undefined && NUMBER.test(token)) return new Exact(token);
    throw wrong(token);
  };
  const object = () => {
    const map = new Map();
    for (let token = next(); token !== "}"; token = next()) {
      if (map.size && token !== ",") throw wrong(token);
      const name = map.size ? next() : token;
      if (!name?.startsWith('"')) throw wrong(name);
      const key = JSON.parse(name);
      if (map.has(key)) throw new SyntaxError(`\`${key}\` stands there twice`);
      const colon = next();
      if (colon !== ":") throw wrong(colon);
      map.set(key, value(next()));
    }
    return map;
  };
  const list = () => {
    const items = [];
    for (let token = next(); token !== "]"; token = next()) {
      if (items.length && token !== ",") throw wrong(token);
      items.push(value(items.length ? next() : token));
    }
    return items;
  };
  const whole = value(next());
  if (place < tokens.length) throw wrong(next());
  return whole;
}

function tokensOf(text) {
  const tokens = [];
  TOKEN.lastIndex = 0;
  for (let at = 0; at < text.length; at = TOKEN.lastIndex) {
    const match = TOKEN.exec(text);
    if (!match) {
      if (!text.slice(at).trim()) break;
      throw new SyntaxError(`what begins with \`${text.slice(at, at + 20)}\` is no JSON`);
    }
    tokens.push(match[1]);
  }
  return tokens;
}

/** What `parse` gave, as JSON again; with `indent`, for people to read. */
export function write(value, indent = "") {
  return written(value, indent, indent && "\n");
}

function written(value, indent, edge) {
  if (value instanceof Exact) return value.text;
  if (value === null || typeof value !== "object") return JSON.stringify(value);
  const inner = edge + indent;
  const parts = value instanceof Map
    ? [...value].map(([name, item]) => `${JSON.stringify(name)}:${indent && " "}${written(item, indent, inner)}`)
    : value.map((item) => written(item, indent, inner));
  const [open, close] = value instanceof Map ? "{}" : "[]";
  return parts.length ? `${open}${inner}${parts.join(`,${inner}`)}${edge}${close}` : open + close;
}
