/*
report_style.h: the look of the report: one style sheet for light and dark, and a few lines of script that show the
value under the pointer. Without script the page says the same. Nothing is fetched: Content-Security-Policy forbids it.
*/
#ifndef LLMC_REPORT_STYLE_H
#define LLMC_REPORT_STYLE_H

// Colours c0 to c7 can be told apart by people who see few, and stand out from either ground.
static const char *const report_style[] = {
    ":root{color-scheme:light dark;--bg:#f6f7f9;--card:#fff;--ink:#1b2430;--soft:#5d6978;--line:#e1e5ea;--grid:#e9ecf0;"
    "--bad:#b42318;--good:#157347;--warn:#9a6700;--c0:#2563c9;--c1:#d9570b;--c2:#0f8a6d;--c3:#a43fb5;--c4:#b58900;"
    "--c5:#c2255c;--c6:#3b8ea5;--c7:#6b7280}\n",
    "@media(prefers-color-scheme:dark){:root{--bg:#11161d;--card:#1a212b;--ink:#e6eaf0;--soft:#9aa6b5;--line:#2b3542;"
    "--grid:#27303c;--bad:#ff8a7a;--good:#5fd39a;--warn:#e3b341;--c0:#6ea8fe;--c1:#ff9f5a;--c2:#4fd1ae;--c3:#d990e8;"
    "--c4:#e3c04a;--c5:#ff7fa8;--c6:#7cc9de;--c7:#aab2bf}}\n",
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"
    "\"Segoe UI\",Roboto,\"Noto Sans\",\"DejaVu Sans\",sans-serif}main{max-width:1360px;margin:0 auto;padding:28px "
    "20px 48px}\n",
    "h1{font-size:25px;line-height:1.25;margin:0 0 4px;overflow-wrap:anywhere}h2{font-size:18px;margin:36px 0 "
    "12px}.sub{color:var(--soft);margin:0;overflow-wrap:anywhere}code,pre{font:13px/1.5 ui-monospace,\"DejaVu "
    "Sans Mono\",monospace}\n",
    ".badge{display:inline-block;font-size:13px;font-weight:600;padding:1px 10px;border-radius:99px;border:1px "
    "solid currentColor;vertical-align:4px;margin-left:10px;white-space:nowrap}.good{color:var(--good)}.warn{"
    "color:var(--warn)}.bad{color:var(--bad)}.soft{color:var(--soft)}\n",
    ".tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(148px,1fr));gap:12px;margin:22px 0 0}.tile,"
    "figure,.card{background:var(--card);border:1px solid var(--line);border-radius:10px}.tile{padding:11px 14px}"
    ".tile span{display:block;color:var(--soft);font-size:13px}.tile "
    "b{font-size:21px;font-weight:600;font-variant-numeric:tabular-nums;"
    "white-space:nowrap}.tile small{display:block;color:var(--soft);font-size:12.5px}\n",
    ".bar{height:6px;border-radius:3px;background:var(--line);margin-top:16px;overflow:hidden}.bar i{display:block;"
    "height:100%;background:var(--c0)}\n",
    ".charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,390px),1fr));gap:14px}figure{"
    "margin:0;padding:12px 14px 8px;min-width:0}figcaption{display:flex;gap:8px;align-items:baseline}figcaption "
    "span{color:var(--soft);font-size:13px}figcaption "
    "em{margin-left:auto;font-style:normal;font-weight:600;font-variant-numeric:tabular-nums}"
    "\n",
    ".p{position:relative;margin:10px 0 24px 46px;height:180px}.p "
    "svg{width:100%;height:100%;display:block;overflow:hidden;"
    "border-bottom:1px solid var(--soft)}.p i{position:absolute;font-style:normal;font-size:12px;line-height:1;"
    "color:var(--soft);font-variant-numeric:tabular-nums;white-space:nowrap}.y{right:100%;transform:translate(-7px,"
    "-50%)}.x{top:calc(100% + 7px);transform:translateX(-50%)}.n{margin:0;color:var(--soft);font-size:12.5px}"
    "\n",
    "svg "
    "path{fill:none;vector-effect:non-scaling-stroke}.g{stroke:var(--grid)}.l{stroke-width:1.8;stroke-linejoin:round}"
    ".e{stroke:var(--bad);opacity:.6}.r{stroke:var(--soft);stroke-dasharray:3 3}.thin{stroke-width:1;opacity:.33}svg "
    ".b{opacity:.2;stroke:none!important}.d{stroke-width:6;stroke-linecap:round}"
    "\n",
    "svg .c0{stroke:var(--c0)}svg .c1{stroke:var(--c1)}svg .c2{stroke:var(--c2)}svg .c3{stroke:var(--c3)}svg "
    ".c4{stroke:var(--c4)}svg .c5{stroke:var(--c5)}svg .c6{stroke:var(--c6)}svg .c7{stroke:var(--c7)}svg .b.c0{"
    "fill:var(--c0)}.k{display:inline-block;width:18px;height:4px;border-radius:2px;vertical-align:middle;margin-right:"
    "8px}"
    ".k0{background:var(--c0)}.k1{background:var(--c1)}.k2{background:var(--c2)}.k3{background:var(--c3)}.k4{"
    "background:var(--c4)}.k5{background:var(--c5)}.k6{background:var(--c6)}.k7{background:var(--c7)}\n",
    ".card{padding:4px "
    "14px;overflow-x:auto}.tall{max-height:460px;overflow-y:auto}.cols{display:grid;grid-template-columns:repeat(auto-"
    "fit,minmax(min(100%,"
    "480px),1fr));gap:0 20px;align-items:start}.cols>section{min-width:0}table{border-collapse:collapse;width:100%;"
    "font-size:14px}td,th{padding:6px 12px 6px 0;border-bottom:1px solid "
    "var(--line);text-align:left;vertical-align:top;"
    "overflow-wrap:anywhere}tr:last-child td{border-bottom:0}th{color:var(--soft);font-weight:500;font-size:13px;"
    "white-space:nowrap}td.r,th.r{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}td:last-child,"
    "th:last-child{padding-right:0}td.w{white-space:nowrap}td.soft{"
    "overflow-wrap:break-word}\n",
    ".sample{padding:10px 14px;margin-bottom:10px}.sample h3{margin:0 0 "
    "4px;font-size:13px;font-weight:600;color:var(--soft)}"
    ".sample p{margin:0;white-space:pre-wrap;overflow-wrap:anywhere;max-width:80ch}.sample mark{background:none;"
    "color:var(--c0)}details{margin-top:14px}summary{cursor:pointer;color:var(--soft)}details .card{margin-top:10px}"
    ".tip{position:absolute;top:0;pointer-events:none;border-left:1px solid var(--soft);height:100%}.tip "
    "b{position:absolute;"
    "top:-6px;left:5px;background:var(--card);border:1px solid var(--line);border-radius:5px;padding:2px 7px;"
    "font-size:12px;font-weight:500;white-space:nowrap;z-index:1}.tip.left "
    "b{left:auto;right:5px}footer{margin-top:40px;"
    "color:var(--soft);font-size:13px}@media(max-width:480px){main{padding:20px 12px 36px}h1{font-size:21px}.tiles{"
    "grid-template-columns:1fr 1fr;gap:9px}.tile b{font-size:19px}.badge{margin-left:6px}}@media print{figure,"
    ".card,.tile{break-inside:avoid}}\n",
};

// The points of a curve stand in its path; the axes in the attributes of its svg.
static const char report_script[] =
    "document.querySelectorAll('.p').forEach(p=>{const g=p.querySelector('svg'),d=g.dataset,x0=+d.x0,x1=+d.x1,y0=+d.y0,"
    "y1=+d.y1,L=[...g.querySelectorAll('.l:not(.thin)')].map(e=>(e.getAttribute('d').match(/-?[\\d.]+ -?[\\d.]+/g)||[])"
    ".map(t=>t.split(' ').map(Number)));let t;const f=v=>Math.abs(v)>=1e4?v.toPrecision(5):Math.abs(v)<1e-3&&v?"
    "v.toExponential(2):String(+v.toPrecision(4));g.addEventListener('pointermove',e=>{const "
    "r=g.getBoundingClientRect(),"
    "u=(e.clientX-r.left)/r.width*1000;if(!t){t=document.createElement('div');t.className='tip';t.append(document"
    ".createElement('b'));p.append(t)}let best=null,out=[];for(const q of L){let m=null;for(const a of q)if(!m||"
    "Math.abs(a[0]-u)<Math.abs(m[0]-u))m=a;if(m){best=best??m;out.push(f(y1-(y1-y0)*m[1]/200))}}if(!best)return;"
    "t.style.left=best[0]/10+'%';t.classList.toggle('left',best[0]>560);t.firstChild.textContent='step '+Math.round(x0+"
    "(x1-x0)*best[0]/1000).toLocaleString('en')+': '+out.join(' | ')});g.addEventListener('pointerleave',()=>{if(t)"
    "t.remove();t=null})})";

#endif
