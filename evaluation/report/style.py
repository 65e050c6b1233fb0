"""The report's style sheet: light and dark, from a phone's width to a wide screen and to paper.

Kept apart from report.py so that each is read in one sitting; nothing here refers outside the page.
"""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #f6f5f2; --card: #ffffff; --ink: #1d1b18; --soft: #6a645c; --line: #e4e0d9; --wash: #f1eee9;
  --accent: #c2410c; --good: #15803d; --bad: #b91c1c; --wait: #a16207;
  --good-wash: #e9f6ee; --bad-wash: #fcebea; --wait-wash: #fbf3dc;
  --s1: #57606a; --s2: #2563eb; --s3: #d9480f; --s4: #7c3aed;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #131210; --card: #1c1a18; --ink: #ece8e1; --soft: #a39c92; --line: #34312d; --wash: #262320;
    --accent: #fb923c; --good: #4ade80; --bad: #f98080; --wait: #facc15;
    --good-wash: #14261b; --bad-wash: #331a19; --wait-wash: #2c2611;
    --s1: #aab2bb; --s2: #6ea8fe; --s3: #ff9352; --s4: #b794f6;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 36px 24px 64px; }
header p { margin: 0; color: var(--soft); }
h1 { font-size: 30px; line-height: 1.2; margin: 2px 0 6px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 44px 0 4px; letter-spacing: -0.005em; }
h3 { font-size: 14px; margin: 0 0 10px; color: var(--soft); font-weight: 600; }
h2 + .lead, .lead { margin: 0 0 14px; color: var(--soft); max-width: 76ch; }
.brand { font-weight: 650; color: var(--accent) !important; }
.verdict { margin: 20px 0 0; padding: 16px 20px; border-radius: 12px; border-left: 5px solid; }
.verdict strong { font-size: 18px; }
.verdict ul { margin: 6px 0 0; padding-left: 20px; }
.verdict.good { background: var(--good-wash); border-color: var(--good); }
.verdict.bad { background: var(--bad-wash); border-color: var(--bad); }
.verdict.wait { background: var(--wait-wash); border-color: var(--wait); }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 16px 0 0; }
.tile, .card { background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.tile { padding: 14px 16px; max-width: 260px; }
.tile b { display: block; font-size: 25px; line-height: 1.25; font-weight: 650; letter-spacing: -0.01em; }
.tile span { color: var(--soft); font-size: 13.5px; line-height: 1.35; display: block; }
.card { padding: 18px 20px; margin: 12px 0; }
.pair { display: grid; gap: 12px; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(400px, 100%), 1fr)); }
@media (min-width: 900px) { .pair.lean { grid-template-columns: 3fr 4fr; } }
.pair > * { margin: 0; min-width: 0; }
.pair + .card, .card + .pair, .pair + .pair { margin-top: 12px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: 14.5px; font-variant-numeric: tabular-nums; }
th, td { padding: 6px 9px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap;
  vertical-align: top; }
th { font-weight: 600; color: var(--soft); font-size: 13px; }
tbody tr:last-child > *, tbody .noted:nth-last-child(2) > * { border-bottom: 0; }
tbody th { color: var(--ink); font-size: 14.5px; font-weight: 500; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
th:last-child, td:last-child { padding-right: 0; }
.left { text-align: left; }
.wrap { white-space: normal; min-width: 17em; text-align: left; color: var(--soft); }
.group { border-left: 1px solid var(--line); }
.ratio { color: var(--soft); font-size: 12.5px; font-weight: 400; }
.narrow, wbr { display: none; } .nowrap { white-space: nowrap; }
.center { text-align: center; }
.note { color: var(--soft); font-size: 12.5px; margin: 10px 0 0; overflow-wrap: anywhere; }
.badge { display: inline-block; border-radius: 99px; padding: 0 9px; font-size: 12.5px; font-weight: 650;
  line-height: 21px; white-space: nowrap; }
.badge.good { color: var(--good); background: var(--good-wash); }
.badge.bad { color: var(--bad); background: var(--bad-wash); }
.badge.wait { color: var(--wait); background: var(--wait-wash); }
.bars { display: grid; grid-template-columns: minmax(0, max-content) minmax(60px, 1fr) max-content; gap: 7px 14px;
  align-items: center; font-size: 14.5px; overflow-wrap: anywhere; }
.bars i { display: block; height: 12px; border-radius: 3px; background: var(--s2); min-width: 2px; }
.bars i.bad { background: var(--bad); } .bars i.muted { background: var(--s1); }
.bars .n { text-align: right; font-variant-numeric: tabular-nums; }
.bars .why { grid-column: 1 / -1; color: var(--bad); font-size: 13.5px; overflow-wrap: anywhere; }
dl { margin: 0; font-size: 14.5px; columns: 250px 3; column-gap: 36px; }
dl div { display: flex; gap: 14px; justify-content: space-between; break-inside: avoid; padding: 2.5px 0; }
dl.one { columns: auto; } dl.one div { justify-content: flex-start; }
dl.one dt { flex: 0 0 10.5em; } dl.one dd { text-align: left; }
dt { color: var(--soft); flex: none; }
dd { margin: 0; text-align: right; min-width: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
details { background: var(--card); border: 1px solid var(--line); border-radius: 12px; margin: 10px 0; }
summary { cursor: pointer; padding: 12px 20px; font-weight: 600; }
summary span { color: var(--soft); font-weight: 400; }
details > div { padding: 0 20px 18px; }
.sides { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(380px, 100%), 1fr)); gap: 4px 36px; }
.sample { padding: 12px 0; border-top: 1px solid var(--line); font-size: 15px; }
.sample p { display: flex; margin: 0 0 4px; gap: 10px; color: var(--soft); }
.sample p > span { flex: 0 0 68px; font-size: 13px; line-height: 23px; }
.sample p > q { quotes: none; min-width: 0; overflow-wrap: anywhere; flex: 1; }
.sample .out > q { color: var(--ink); }
.sample .badge { float: right; margin: 1px 0 2px 10px; }
.off { text-decoration: underline; text-decoration-color: var(--bad); text-decoration-thickness: 1.5px;
  text-underline-offset: 4px; }
svg.plot { width: 100%; height: auto; display: block; }
svg.plot text { fill: var(--soft); font-size: 13px; font-family: inherit; font-variant-numeric: tabular-nums; }
svg.plot .name { fill: var(--ink); font-weight: 600; } svg.plot .rule-name { font-size: 12px; }
svg.plot line, svg.plot polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg.plot .grid { stroke: var(--line); stroke-width: 1; } svg.plot .axis { stroke: var(--soft); stroke-width: 1; }
svg.plot .rule { stroke-width: 1.5; stroke-dasharray: 5 4; }
svg.plot .s1 { stroke: var(--s1); } svg.plot .s2 { stroke: var(--s2); }
svg.plot .s3 { stroke: var(--s3); } svg.plot .s4 { stroke: var(--s4); }
svg.plot circle { stroke-width: 2; } svg.plot circle.s1 { fill: var(--s1); } svg.plot circle.s2 { fill: var(--s2); }
svg.plot circle.s3 { fill: var(--s3); } svg.plot circle.s4 { fill: var(--s4); }
svg.plot .faint { stroke-width: 1; opacity: 0.35; }
pre { overflow-x: auto; background: var(--wash); border-radius: 8px; padding: 12px 14px; font-size: 13px;
  margin: 12px 0 0; }
code { overflow-wrap: anywhere; }
@media (max-width: 640px) {
  main { padding: 22px 14px 48px; } h1 { font-size: 25px; } h2 { margin-top: 34px; }
  .card { padding: 14px; } summary { padding: 12px 14px; } details > div { padding: 0 14px 14px; }
  .tiles { grid-template-columns: repeat(2, 1fr); gap: 8px; } .tile { padding: 11px 13px; } .tile b { font-size: 21px; }
  .bars { gap: 6px 10px; font-size: 13.5px; }
  table, tbody th { font-size: 12.5px; } th { font-size: 12px; } th, td { padding: 6px 3.5px; }
  tbody th { white-space: normal; overflow-wrap: anywhere; min-width: 5.4em; }
  .place .ratio { display: block; } .wide { display: none; }
  wbr { display: inline; } .narrow { display: table-row; } .noted > * { border-bottom: 0; }
  .narrow td { padding-top: 0; font-size: 12px; }
  dl.one dt { flex-basis: 8em; }
  .wrap { min-width: 0; } .badge { padding: 0 7px; } .tile { max-width: none; }
  .sample p { gap: 8px; } .sample p > span { flex-basis: 62px; font-size: 12.5px; }
}
@media print { body { background: none; } .card, .tile, details { break-inside: avoid; } }
"""
