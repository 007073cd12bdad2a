"""The style sheet of `/status`, and the security policy that allows it and nothing else.

Light and dark follow the reader's system. Below 44rem, rows of tables become cards with a label for each cell, so that
nothing has to be scrolled sideways.
"""

import base64
import hashlib

STYLE = """
:root { color-scheme: light dark; --ink: #171c22; --soft: #5a6472; --line: #dde2e8; --paper: #f4f6f8; --card: #fff;
  --good: #0e7a43; --good-tint: #e3f4ea; --wait: #8d5b00; --wait-tint: #fdf2dc; --bad: #b3261e; --bad-tint: #fdeae8;
  --calm-tint: #e9edf2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebee; --soft: #9ba6b2; --line: #2e363f; --paper: #101418;
  --card: #191f25; --good: #5fd394; --good-tint: #11301f; --wait: #efb856; --wait-tint: #33270d; --bad: #ff8f85;
  --bad-tint: #3a1917; --calm-tint: #242c34; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 76rem; margin: 0 auto; padding: 1.5rem 1.5rem 2.5rem; overflow-wrap: anywhere; }
h1, h2, h3, p, dl, dd, ul, pre { margin: 0; padding: 0; }
h2 { font-size: 1rem; margin: 2rem 0 .6rem; }
h2 span { font-weight: 400; color: var(--soft); margin-left: .4rem; }
a { color: inherit; }
.soft { color: var(--soft); }
.number { font-variant-numeric: tabular-nums; }
.ready, .ok { --tone: var(--good); --tint: var(--good-tint); }
.starting, .stale, .degraded { --tone: var(--wait); --tint: var(--wait-tint); }
.failed, .failing { --tone: var(--bad); --tint: var(--bad-tint); }
.stopped, .stopping { --tone: var(--soft); --tint: var(--calm-tint); }

.top { background: var(--card); border: 1px solid var(--line); border-radius: .75rem; overflow: hidden; }
.verdict { background: var(--tint); border-left: .4rem solid var(--tone); padding: 1.1rem 1.4rem; }
.verdict p:first-child { color: var(--soft); font-size: .95rem; }
.verdict h1 { color: var(--tone); font-size: 1.7rem; line-height: 1.25; }
.verdict .why { margin-top: .2rem; font-size: 1.05rem; }
.facts { display: flex; flex-wrap: wrap; gap: .9rem 2.25rem; padding: 1rem 1.4rem 1rem 1.8rem; }
.facts dt { color: var(--soft); font-size: .8rem; }
.facts dd { font-size: 1.05rem; font-weight: 600; }
.facts dd.text { font-weight: 400; }
.facts dd b { color: var(--tone); }

.chip { display: inline-block; background: var(--tint); color: var(--tone); border-radius: 1rem; padding: 0 .6rem;
  font-size: .85rem; font-weight: 600; white-space: nowrap; }
.tag { display: inline-block; border: 1px solid var(--line); color: var(--soft); border-radius: 1rem; padding: 0 .5rem;
  font-size: .8rem; white-space: nowrap; }

.trouble { list-style: none; display: grid; gap: .6rem; grid-template-columns: repeat(auto-fill, minmax(28rem, 1fr)); }
.trouble li { background: var(--card); border: 1px solid var(--line); border-left: .4rem solid var(--tone);
  border-radius: .5rem; padding: .7rem 1rem .8rem; }
.trouble li.blocking { grid-column: 1 / -1; border-left-color: var(--bad); }
.trouble h3 { display: flex; flex-wrap: wrap; align-items: baseline; gap: .2rem .5rem; font-size: 1rem; }
.trouble h3 .tag, .trouble h3 .kind { font-weight: 400; color: var(--soft); }
.trouble .why { margin-top: .2rem; }
.trouble .more { margin-top: .2rem; color: var(--soft); font-size: .87rem; }
.trouble .more span + span::before { content: "\\00b7"; margin: 0 .4em; }
pre { font: .82rem/1.45 ui-monospace, monospace; white-space: pre-wrap; background: var(--paper); color: var(--soft);
  border-radius: .3rem; padding: .4rem .6rem; margin-top: .5rem; }

table { width: 100%; border-collapse: separate; border-spacing: 0; background: var(--card);
  border: 1px solid var(--line); border-radius: .5rem; overflow: hidden; }
th, td { text-align: left; vertical-align: top; padding: .5rem .8rem; }
th { color: var(--soft); font-weight: 500; font-size: .8rem; white-space: nowrap; }
td { border-top: 1px solid var(--line); }
td.name { font-weight: 600; } td.name .tag { font-weight: 400; margin-left: .3rem; }
td.number { white-space: nowrap; }
th.number, td.number { text-align: right; }
td.note { color: var(--soft); font-size: .87rem; }

footer { margin-top: 2rem; color: var(--soft); font-size: .87rem; display: flex; flex-wrap: wrap; gap: .2rem 1.25rem; }

@media (max-width: 44rem) {
  main { padding: .75rem .75rem 2rem; }
  .verdict { padding: .9rem 1rem; } .verdict h1 { font-size: 1.4rem; }
  .facts { display: grid; grid-template-columns: repeat(2, 1fr); gap: .7rem 1rem; padding: .9rem 1.4rem; }
  .facts .wide { grid-column: 1 / -1; }
  thead { display: none; }
  table, tbody { display: block; }
  tr { display: grid; grid-template-columns: repeat(3, 1fr); gap: .35rem .8rem; padding: .7rem .9rem .8rem; }
  tr + tr { border-top: 1px solid var(--line); }
  td, td.number { display: block; border: 0; padding: 0; text-align: left; white-space: normal; }
  td:empty { display: none; }
  td.name { font-size: 1rem; grid-column: 1 / span 2; } td.state { text-align: right; }
  .slim td.number { display: none; } .slim tr { padding: .45rem .9rem; }
  .trouble { grid-template-columns: 1fr; }
  td.note { grid-column: 1 / -1; }
  td:not(.name, .state)::before { content: attr(data-label); display: block; color: var(--soft); font-size: .78rem; }
}
"""
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
SECURITY_POLICY = (
    f"default-src 'none'; style-src 'sha256-{STYLE_HASH}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
