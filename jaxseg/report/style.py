"""The style sheet of the pages, light and dark.

Text has a contrast of at least 4.5 to 1 with what it stands on, drawings of 3 to 1 (WCAG 2.1, level
AA); `test_report_style.py` computes both from COLOURS.
"""

# Name -> (light, dark). Text: ink, faint, accent, up, down; drawings: old and the lines.
COLOURS = {
    "paper": ("#fbfbfa", "#15171a"),
    "card": ("#ffffff", "#1d2024"),
    "ink": ("#24262b", "#e4e6ea"),
    "faint": ("#5d626b", "#a0a7b1"),
    "rule": ("#e4e5e8", "#30343a"),
    "accent": ("#1a63d6", "#6cacff"),
    "old": ("#868f9e", "#7b8492"),
    "up": ("#18744a", "#4cc38a"),
    "down": ("#b83232", "#f58088"),
    "line0": ("#1f6feb", "#58a1ff"),
    "line1": ("#c9641a", "#f0964a"),
    "line2": ("#23895f", "#4cc38a"),
    "line3": ("#8957e5", "#b18cff"),
    "line4": ("#c2417c", "#ee7fb0"),
    "line5": ("#6b727c", "#9aa3af"),
    "line6": ("#8a6d00", "#d9b44a"),
    "line7": ("#007a87", "#45c0cf"),
}
LINES = sum(name.startswith("line") for name in COLOURS)  # after which the colours repeat


def _variables(which: int) -> str:
    return ";".join(f"--{name}:{pair[which]}" for name, pair in COLOURS.items())


_RULES = """
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif}
main{max-width:1320px;margin:0 auto;padding:28px 24px 48px}
h1{font-size:26px;margin:0;letter-spacing:-.01em;overflow-wrap:anywhere}
h2{font-size:18px;margin:36px 0 12px}h3{font-size:15px;margin:22px 0 6px}
a{color:var(--accent)}code{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.92em;
overflow-wrap:anywhere}
.note{color:var(--faint);margin:4px 0 0;font-size:14px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin-top:20px}
.tile{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:12px 16px}
.tile b{display:block;font-size:30px;line-height:1.2;font-variant-numeric:tabular-nums}
.tile small{font-size:17px;font-weight:500;color:var(--faint)}
.tile span{display:block}.tile em{display:block;font-style:normal;font-size:13px;
color:var(--faint);min-height:1.5em}
.tile.main{border-color:var(--accent);box-shadow:inset 0 0 0 1px var(--accent)}
.tile.main b{color:var(--accent)}
.scroll{overflow-x:auto}
.chips{font-size:13px;color:var(--faint);font-weight:400}
.chip{display:inline-flex;align-items:center;gap:5px;margin:0 12px 3px 0;white-space:nowrap}
.chip b{color:var(--ink);font-variant-numeric:tabular-nums}
.chip i{width:12px;height:12px;border-radius:3px;flex:none;border:1px solid var(--rule)}
.chip i.ramp{width:90px}.chip i.old{background:var(--old)}.chip i.now{background:var(--accent)}
.pictures{display:grid;grid-template-columns:repeat(var(--columns),minmax(150px,1fr));gap:6px;margin-top:8px}
.pictures img{width:100%;display:block;border-radius:4px}
.head{font-size:13px;color:var(--faint);align-self:end}
.head.row{grid-column:1/-1;color:var(--ink);margin-top:2px}
.blocks>*{min-width:0}.blocks{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,560px),1fr));
gap:18px 28px;margin-top:8px}.blocks.whole{grid-template-columns:1fr}
.blocks .pictures{grid-template-columns:repeat(var(--columns),minmax(90px,1fr));gap:4px}
.times .pictures{grid-template-columns:repeat(var(--columns),minmax(150px,280px))}
.shots{--cut:50%;display:grid;gap:18px;margin-top:8px}
.shots.two{grid-template-columns:repeat(auto-fit,minmax(min(100%,560px),1fr));gap:18px 28px}
.shot>.name{font-size:13px;color:var(--ink);overflow-wrap:anywhere}
.cells{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:6px 8px;
margin-top:4px}
.two .cells{grid-template-columns:repeat(auto-fit,minmax(130px,1fr))}
.cell{all:unset;box-sizing:border-box;cursor:zoom-in;min-width:0;display:block}
.cell:focus-visible{outline:2px solid var(--accent);outline-offset:2px;border-radius:4px}
.frame{display:block;position:relative;overflow:hidden;border-radius:4px}
.frame img{width:100%;display:block}.frame img.map{image-rendering:pixelated}
.frame img+img{position:absolute;inset:0;height:100%;clip-path:inset(0 0 0 var(--cut))}
.frame.pair::after{content:"";position:absolute;top:0;bottom:0;left:var(--cut);width:2px;
margin-left:-1px;background:#fff;box-shadow:0 0 0 1px #0008}
.cap{display:flex;justify-content:space-between;gap:8px;font-size:13px;color:var(--faint)}
.cap span{min-width:0;overflow-wrap:anywhere}
.cap span+span{flex:none;white-space:nowrap}
.cut{display:flex;align-items:center;gap:10px;font-size:13px;color:var(--faint);max-width:520px;
margin:8px 0 0}.cut input{flex:1;accent-color:var(--accent);min-width:80px}
dialog{border:0;padding:0;width:100vw;height:100vh;height:100dvh;max-width:none;max-height:none;
background:var(--paper);color:var(--ink)}
dialog[open]{display:flex;flex-direction:column}
.bar-of{display:flex;flex-wrap:wrap;gap:6px 10px;align-items:center;padding:8px 12px;font-size:14px}
.bar-of b{flex:1 1 120px;min-width:0;overflow-wrap:anywhere}
.bar-of select,.bar-of button{font:inherit;color:var(--ink);background:var(--card);
border:1px solid var(--faint);border-radius:6px;padding:3px 9px;min-height:32px;max-width:240px}
.stage{flex:1;min-height:0;position:relative;overflow:hidden;touch-action:none;cursor:grab;
background:var(--card);outline:0}
.stage>div{position:absolute;transform-origin:0 0}
.stage img{position:absolute;inset:0;width:100%;height:100%;image-rendering:pixelated;
-webkit-user-drag:none;user-select:none}
.stage img.photo{image-rendering:auto}
.stage .over{clip-path:inset(0 0 0 var(--cut))}
.stage .knife{position:absolute;top:0;bottom:0;width:24px;margin-left:-12px;cursor:ew-resize}
.stage .knife::after{content:"";position:absolute;left:11px;top:0;bottom:0;width:2px;
background:#fff;box-shadow:0 0 0 1px #0008}
.warnings{margin:0;padding:10px 16px 10px 34px;background:var(--card);
border:1px solid var(--down);border-radius:10px}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
.classes{width:100%}
.classes td,.classes th{padding:3px 10px;text-align:right;font-weight:400;white-space:nowrap;
border-bottom:1px solid var(--rule)}
.classes thead th{font-size:13px;color:var(--faint);vertical-align:bottom}
.classes th:first-child{text-align:left;padding-left:0;width:1%}
.classes thead th.chips{text-align:left}
.classes th i{display:inline-block;width:12px;height:12px;border-radius:3px;margin-right:8px;
vertical-align:-1px;border:1px solid var(--rule)}
.classes .bars{width:45%;padding:5px 10px}
.classes.depth,.classes.beside,.classes.choices,.classes.runs{width:auto;margin-bottom:6px}
.classes.depth th:first-child,.classes.beside th:first-child{width:auto;padding-right:24px}
.classes.beside td.text,.classes.runs td.text{text-align:left;white-space:normal;min-width:150px}
.bar{height:7px;border-radius:0 3px 3px 0;margin:1px 0}.bar.old{background:var(--old)}
.bar.now{background:var(--accent)}
.choices td,.choices thead th{padding-left:24px}.charts.choices{margin-top:16px}
.mean th,.mean td{font-weight:650!important;border-bottom:0!important;
border-top:2px solid var(--rule)}
.faint{color:var(--faint)}.up{color:var(--up)}.down{color:var(--down)}
.matrix{font-size:12px;border-collapse:separate;border-spacing:1px}
.matrix td{min-width:30px;height:24px;padding:0 2px;text-align:center}
.matrix th{font-weight:400;color:var(--ink);white-space:nowrap;text-align:right;padding:0 6px 0 0;
position:sticky;left:0;background:var(--paper)}
.matrix thead th{height:104px;vertical-align:bottom;padding:0;position:static}
.matrix thead th span{display:block;width:28px;writing-mode:vertical-rl;transform:rotate(180deg);
text-align:left}
.matrix th i{display:inline-block;width:10px;height:10px;border-radius:3px;margin-left:6px;
border:1px solid var(--rule)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,310px),1fr));gap:12px}
.charts.wide{grid-template-columns:repeat(auto-fill,minmax(min(100%,520px),1fr))}
figure{margin:0;background:var(--card);border:1px solid var(--rule);border-radius:10px;
padding:12px 14px 8px;position:relative;min-width:0}
figcaption b{font-weight:600}figcaption .chips{display:block;margin-top:2px;min-height:22px}
figcaption .chip{white-space:normal}
svg{width:100%;height:auto;display:block}
svg text{font-size:11px;fill:var(--faint);font-variant-numeric:tabular-nums}
svg path{fill:none;stroke-width:1.8;stroke-linejoin:round}
svg .ring{fill:none;stroke-width:1.8}
svg .grid{stroke:var(--rule)}svg .mark{stroke:var(--faint);stroke-dasharray:4 4}
svg .guide{stroke:var(--faint)}
.tip{position:absolute;pointer-events:none;background:var(--card);color:var(--ink);
border:1px solid var(--faint);border-radius:6px;padding:4px 8px;font-size:12px;z-index:2;
white-space:nowrap;font-variant-numeric:tabular-nums}
.tip i{display:inline-block;width:9px;height:9px;border-radius:3px;margin-right:5px}
details{margin-top:36px}summary{cursor:pointer;font-size:18px;font-weight:600}
pre{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:10px 14px;
margin:0 0 10px;white-space:pre-wrap;overflow-wrap:anywhere;font-size:13px;
font-family:ui-monospace,Menlo,Consolas,monospace}
.config{margin-top:10px;font-size:13px}
.config td,.config th{text-align:left;font-weight:400;padding:2px 18px 2px 0;vertical-align:top}
.config td{font-family:ui-monospace,Menlo,Consolas,monospace;overflow-wrap:anywhere}
.config th{color:var(--faint);overflow-wrap:anywhere;min-width:110px}
@media(max-width:640px){main{padding:16px 12px 32px}h1{font-size:21px}
.tiles{grid-template-columns:1fr 1fr;gap:8px}.tile{padding:10px 12px}.tile b{font-size:24px}
.tile small{font-size:14px}.cells,.two .cells{grid-template-columns:1fr 1fr}
.classes td,.classes th{padding:3px 6px}.classes thead th{white-space:normal}
.classes .bars,.classes thead th.chips{display:none}
.classes th:first-child{white-space:normal;min-width:104px}
.classes th:first-child i{margin-right:4px}
.choices td,.choices thead th{padding-left:6px}
.bar-of b{flex-basis:100%}.bar-of button{flex:1}
.bar-of select{flex:1 1 46%;min-width:0;padding:3px 4px;font-size:13px}}
@media print{main{max-width:none;padding:0}section{break-inside:avoid}.cut{display:none}}
"""

STYLE = (
    f":root{{color-scheme:light dark;{_variables(0)}}}"
    f"@media(prefers-color-scheme:dark){{:root{{{_variables(1)}}}}}" + _RULES
).replace("\n", "")
