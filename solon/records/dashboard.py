"""Features as one HTML page that needs no server and fetches nothing: the numbers stand in it as JSON, and
all text is set as text, never as markup.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

STYLE = """
:root { --ink: #1c2126; --soft: #5c6670; --rule: #dde2e7; --paper: #ffffff; --wash: #f5f7f9; --mark: #1f5fa8 }
* { box-sizing: border-box } body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 }
header { padding: 1rem 1.25rem; border-bottom: 1px solid var(--rule) } h1 { font-size: 1.25rem; margin: 0 } h2 { font-size: 1.05rem; margin: 0 0 .4rem }
h3 { font-size: .82rem; color: var(--soft); margin: 1.1rem 0 .3rem } .note { color: var(--soft); font-size: .85rem; margin: .2rem 0 }
.layout { display: grid; grid-template-columns: minmax(15rem, 21rem) 1fr; min-height: 80vh } nav { border-right: 1px solid var(--rule); padding: .8rem }
input, select { width: 100%; padding: .4rem; margin-bottom: .5rem; font: inherit; color: inherit; background: var(--paper); border: 1px solid var(--rule); border-radius: 4px }
#list { overflow-y: auto; max-height: 46vh; border-top: 1px solid var(--rule) }
#list button, .link { display: block; width: 100%; text-align: left; font: inherit; font-size: .88rem; color: inherit; background: none; border: 0; border-bottom: 1px solid var(--rule); padding: .35rem .2rem; cursor: pointer; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
#list button.on { background: var(--wash); font-weight: 600 } #list button:hover, .link:hover { color: var(--mark) }
main { padding: 1rem 1.4rem 4rem; min-width: 0 } .pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 0 2rem }
.example { white-space: pre-wrap; overflow-wrap: anywhere; padding: .3rem 0; border-bottom: 1px solid var(--rule); font-size: .92rem }
.hot { outline: 1px solid var(--mark) } table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums }
td { border-bottom: 1px solid var(--rule); padding: .15rem .5rem .15rem 0 } td:last-child { text-align: right } svg { width: 100%; height: auto; display: block }
circle { cursor: pointer } @media (max-width: 700px) { .layout { grid-template-columns: 1fr } }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ec; --soft: #9aa5b0; --rule: #333b43; --paper: #15191d; --wash: #1d2328; --mark: #7fb2ec } }
"""
SCRIPT = """
'use strict';
const data = JSON.parse(document.getElementById('data').textContent), words = data.words, byId = new Map(data.features.map(f => [f.id, f]));
const at = id => document.getElementById(id), NS = 'http://www.w3.org/2000/svg';
function make(parent, tag, text, kind) { const e = document.createElement(tag); if (text !== undefined) e.textContent = text; if (kind) e.className = kind; parent.appendChild(e); return e }
function draw(parent, tag, own) { const e = document.createElementNS(NS, tag); for (const k in own) e.setAttribute(k, own[k]); parent.appendChild(e); return e }
const number = v => v === 0 ? '0' : Math.abs(v) >= 100 ? v.toFixed(0) : Math.abs(v) >= 0.01 ? v.toPrecision(3) : v.toExponential(1);
const shown = text => text.replace(/\\n/g, '\\u21b5\\n');
const fires = f => f.levels.length ? f.levels[0].examples.map(e => words[e.words[e.hot]].trim() || '\\u00b7') : [];
const name = f => f.label || [...new Set(fires(f))].slice(0, 3).join(' | ');
let current = null;
function list() {
  const wanted = at('search').value.toLowerCase(), order = at('order').value;
  const found = data.features.filter(f => !wanted || String(f.id) === wanted || f.text.includes(wanted));
  found.sort((a, b) => order === 'id' ? a.id - b.id : b[order] - a[order]);
  at('list').replaceChildren();
  for (const f of found.slice(0, 400)) { const b = make(at('list'), 'button', f.id + '  ' + name(f), f.id === current ? 'on' : ''); b.onclick = () => show(f.id) }
  at('found').textContent = found.length + ' of ' + data.features.length + ' features';
}
function passage(parent, example, top) {
  const p = make(parent, 'div', undefined, 'example');
  example.words.forEach((w, i) => {
    const s = make(p, 'span', shown(words[w]), i === example.hot ? 'hot' : ''), v = example.values[i];
    if (v > 0) { s.style.background = 'rgba(31, 95, 168, ' + (0.6 * v / top).toFixed(3) + ')'; s.title = number(v) }
  });
}
function table(parent, title, rows) { make(parent, 'h3', title); const t = make(parent, 'table'); for (const [w, v] of rows) { const r = make(t, 'tr'); make(r, 'td', shown(words[w]) || '\\u00b7'); make(r, 'td', (v > 0 ? '+' : '') + number(v)) } }
function histogram(parent, f) {
  make(parent, 'h3', 'Activations above 0, by how many (log scale)');
  const svg = draw(parent, 'svg', {viewBox: '0 0 400 110', role: 'img'}), most = Math.log1p(Math.max(...f.histogram)), n = f.histogram.length;
  f.histogram.forEach((c, i) => { const h = most ? 85 * Math.log1p(c) / most : 0; const r = draw(svg, 'rect', {x: 400 * i / n, y: 90 - h, width: 400 / n - 1.5, height: h, fill: 'var(--mark)'}); draw(r, 'title', {}).textContent = c + ' tokens' });
  for (const [x, v, a] of [[0, 0, 'start'], [400, f.largest, 'end']]) draw(svg, 'text', {x, y: 104, 'font-size': 11, 'text-anchor': a, fill: 'var(--soft)'}).textContent = number(v);
}
function map() {
  const svg = at('map'); svg.replaceChildren();
  for (const f of data.features) { const c = draw(svg, 'circle', {cx: f.x, cy: f.y, r: f.id === current ? 5 : 1.8, fill: f.id === current ? '#c2541b' : 'var(--mark)', opacity: f.id === current ? 1 : .55}); draw(c, 'title', {}).textContent = f.id + '  ' + name(f); c.onclick = () => show(f.id) }
}
function show(id) {
  const f = byId.get(id), main = at('feature'); current = id; location.hash = id; main.replaceChildren();
  make(main, 'h2', 'Feature ' + id + (f.label ? ': ' + f.label : ''));
  make(main, 'p', 'active at ' + number(100 * f.frequency) + '% of tokens; largest activation ' + number(f.largest) + (f.note ? '; ' + f.note : ''), 'note');
  const pair = make(main, 'div', undefined, 'pair'), left = make(pair, 'div'), right = make(pair, 'div');
  histogram(left, f);
  make(left, 'h3', 'Nearest directions (cosine)');
  for (const [other, cosine] of f.near) { const g = byId.get(other), b = make(left, 'button', number(cosine) + '  ' + other + (g ? '  ' + name(g) : '  (not on this page)'), 'link'); if (g) b.onclick = () => show(other) }
  if (f.up.length) { table(right, 'Raises most, straight to the logits', f.up); table(right, 'Lowers most', f.down) }
  for (const level of f.levels) { make(main, 'h3', level.title); for (const example of level.examples) passage(main, example, f.largest) }
  list(); map();
}
for (const f of data.features) f.text = (f.label + ' ' + fires(f).join(' ')).toLowerCase();
at('search').oninput = list; at('order').onchange = list;
const first = Number(location.hash.slice(1)); show(byId.has(first) ? first : data.features[0].id);
"""


def dashboard(
    title: str, notes: Sequence[str], words: Sequence[str], features: Sequence[Mapping[str, Any]]
) -> str:
    """The page. Of each feature: id, label, note, frequency, largest, interest (what the list is sorted by at
    first), histogram (counts), up and down ([word, logit]), near ([id, cosine]), x and y (0 to 400), and
    levels ([title, examples]); of an example, words, values and the hot place. Words are numbers into
    `words`.
    """
    told = json.dumps(
        {"words": list(words), "features": list(features)}, ensure_ascii=False, separators=(",", ":")
    ).replace("<", "\\u003c")
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    head = (
        f'<meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{policy}"><meta '
        'name="viewport" content="width=device-width, initial-scale=1">'
    )
    lead = "".join(f'<p class="note">{escape(own)}</p>' for own in notes)
    orders = (
        ("interest", "most telling first"),
        ("frequency", "most frequent first"),
        ("largest", "strongest first"),
        ("id", "by number"),
    )
    options = "".join(f'<option value="{value}">{text}</option>' for value, text in orders)
    return (
        "<!doctype html>\n<html "
        f'lang="en"><head>{head}<title>{escape(title)}</title><style>{STYLE}</style></head>\n<body><header><h1>{escape(title)}</h1>{lead}</header>'
        '<div class="layout"><nav><input id="search" placeholder="search labels and tokens" '
        f'aria-label="search"><select id="order" aria-label="order">{options}</select>'
        '<p class="note" id="found"></p><div id="list"></div><h3>Directions, in two principal '
        'components</h3><svg id="map" viewBox="-5 -5 410 410"></svg></nav>'
        '<main id="feature"></main></div>\n<script type="application/json" '
        f'id="data">{told}</script>\n<script>{SCRIPT}</script></body></html>\n'
    )
