"""The pages' script: values under the pointer, the slider between two pictures, large pictures.

It only adds to what is there: without it every picture, chart and number is still shown.
"""

SCRIPT = r"""
(function(){"use strict";
const all=(q,e)=>[...(e||document).querySelectorAll(q)];
function make(tag,props,parent){const e=Object.assign(document.createElement(tag),props||{});
if(parent)parent.append(e);return e}

// Values of a chart's lines under the pointer. A path's points are the line's steps and values.
all("svg[data-chart]").forEach(svg=>{
const figure=svg.closest("figure");
const lines=all("path[data-values]",svg).map(p=>({colour:p.style.stroke,name:p.dataset.name,
points:p.getAttribute("d").slice(1).split("L").map((xy,i)=>{
const [x,y]=xy.split(" ").map(Number),[s,v]=p.dataset.values.split(" ")[i].split(",");
return{x,y,s:+s,v}})}));
if(!lines.length)return;
const ns="http://www.w3.org/2000/svg",g=document.createElementNS(ns,"g");svg.append(g);
let tip=null;
function hide(){g.replaceChildren();if(tip){tip.remove();tip=null}}
function show(e){
const box=svg.getBoundingClientRect(),view=svg.viewBox.baseVal;
const x=(e.clientX-box.left)/box.width*view.width;
let near=null;
for(const l of lines)for(const p of l.points)if(!near||Math.abs(p.x-x)<Math.abs(near.x-x))near=p;
hide();tip=make("div",{className:"tip"},figure);
make("div",{textContent:"step "+near.s},tip);
const guide=document.createElementNS(ns,"line");g.append(guide);
for(const [k,v] of Object.entries({class:"guide",x1:near.x,x2:near.x,y1:8,y2:view.height-24}))
guide.setAttribute(k,v);
for(const l of lines){let p=null;
for(const q of l.points)if(!p||Math.abs(q.x-near.x)<Math.abs(p.x-near.x))p=q;
if(Math.abs(p.x-near.x)>12)continue;
const dot=document.createElementNS(ns,"circle");g.append(dot);
for(const [k,v] of Object.entries({cx:p.x,cy:p.y,r:4}))dot.setAttribute(k,v);
dot.style.fill=l.colour;
const row=make("div",{},tip);make("i",{},row).style.background=l.colour;
row.append((l.name?l.name+" ":"")+p.v+(p.s===near.s?"":" (step "+p.s+")"))}
const home=figure.getBoundingClientRect();
let left=box.left-home.left+near.x/view.width*box.width+10;
if(left+tip.offsetWidth>home.width-4)left-=tip.offsetWidth+20;
tip.style.left=Math.max(4,left)+"px";tip.style.top=(box.top-home.top+6)+"px"}
svg.addEventListener("pointermove",show);svg.addEventListener("pointerdown",show);
svg.addEventListener("pointerleave",hide)});

// The slider between before and after, for all pictures of a section; a pointer moves one row's.
all(".cut input").forEach(range=>{const shots=range.closest("section").querySelectorAll(".shots");
range.addEventListener("input",()=>shots.forEach(s=>{s.style.setProperty("--cut",range.value+"%");
all(".shot",s).forEach(r=>r.style.removeProperty("--cut"))}))});
all(".frame.pair").forEach(frame=>frame.addEventListener("pointermove",e=>{
if(e.pointerType!=="mouse")return;
const box=frame.getBoundingClientRect();
frame.closest(".shot").style.setProperty("--cut",
Math.min(100,Math.max(0,(e.clientX-box.left)/box.width*100))+"%")}));

// A large picture: two layers beside a line that can be dragged, zoomed and moved together.
const dialog=make("dialog",{},document.body);
dialog.setAttribute("aria-label","large picture");
const bar=make("div",{className:"bar-of"},dialog),title=make("b",{},bar);
const left=make("select",{},bar);left.setAttribute("aria-label","left of the line");
const right=make("select",{},bar);right.setAttribute("aria-label","right of the line");
function button(text,label,act){
const b=make("button",{textContent:text,type:"button",title:label},bar);
b.setAttribute("aria-label",label);b.addEventListener("click",act)}
button("\u2039","previous image",()=>turn(-1));button("\u203a","next image",()=>turn(1));
button("\u2212","smaller",()=>zoom(1/1.5));button("+","larger",()=>zoom(1.5));
button("fit","whole picture",fit);button("\u00d7","close",()=>dialog.close());
const stage=make("div",{className:"stage",tabIndex:-1},dialog),sheet=make("div",{},stage);
const under=make("img",{alt:""},sheet),over=make("img",{alt:"",className:"over"},sheet);
const knife=make("div",{className:"knife"},stage);
let shot=null,layers=[],scale=1,x=0,y=0,cut=.5,base=[1,1];
function place(){sheet.style.transform=`translate(${x}px,${y}px) scale(${scale})`;
const at=Math.min(1,Math.max(0,(cut*stage.clientWidth-x)/(base[0]*scale)));
sheet.style.setProperty("--cut",at*100+"%");knife.style.left=cut*100+"%"}
function fit(){const w=under.naturalWidth||2,h=under.naturalHeight||1;base=[w,h];
sheet.style.width=w+"px";sheet.style.height=h+"px";
scale=Math.min(stage.clientWidth/w,stage.clientHeight/h);
x=(stage.clientWidth-w*scale)/2;y=(stage.clientHeight-h*scale)/2;place()}
function zoom(by,cx,cy){cx=cx??stage.clientWidth/2;cy=cy??stage.clientHeight/2;
const next=Math.min(40,Math.max(.05,scale*by));by=next/scale;scale=next;
x=cx-(cx-x)*by;y=cy-(cy-y)*by;place()}
function layer(img,i){img.src=layers[i].src;img.classList.toggle("photo",layers[i].photo)}
function choose(){layer(under,left.selectedIndex);layer(over,right.selectedIndex)}
left.addEventListener("change",choose);right.addEventListener("change",choose);
function open(row,clicked,keep){shot=row;
layers=all("img",row).map(i=>({src:i.src,name:i.dataset.layer||i.alt,
photo:!i.classList.contains("map")}));
title.textContent=row.dataset.name;const chosen=[left.value,right.value];
for(const s of [left,right])s.replaceChildren(...layers.map(l=>new Option(l.name,l.name)));
const own=clicked?all("img",clicked).map(i=>all("img",row).indexOf(i)):[0];
left.selectedIndex=own[0];right.selectedIndex=own[own.length-1];
if(keep){chosen.forEach((v,i)=>{const s=[left,right][i];
if(layers.some(l=>l.name===v))s.value=v})}
else if(own.length<2){left.selectedIndex=own[0]?0:0;right.selectedIndex=own[0]||1%layers.length}
choose();if(!dialog.open)dialog.showModal();stage.focus();
under.decode().then(fit,fit)}
function turn(by){const rows=all(".shot",shot.closest("section"));
open(rows[(rows.indexOf(shot)+by+rows.length)%rows.length],null,true)}
all(".cell").forEach(c=>c.addEventListener("click",()=>open(c.closest(".shot"),c)));
stage.addEventListener("wheel",e=>{e.preventDefault();const b=stage.getBoundingClientRect();
zoom(Math.exp(-e.deltaY/300),e.clientX-b.left,e.clientY-b.top)},{passive:false});
const fingers=new Map();let cutting=false;
stage.addEventListener("pointerdown",e=>{stage.setPointerCapture(e.pointerId);
cutting=e.target===knife;fingers.set(e.pointerId,[e.clientX,e.clientY])});
stage.addEventListener("pointermove",e=>{const was=fingers.get(e.pointerId);if(!was)return;
const box=stage.getBoundingClientRect(),now=[e.clientX,e.clientY];
if(cutting){cut=Math.min(1,Math.max(0,(now[0]-box.left)/box.width));place()}
else if(fingers.size===1){x+=now[0]-was[0];y+=now[1]-was[1];place()}
else{const other=[...fingers].find(([id])=>id!==e.pointerId)[1];
const d=(p)=>Math.hypot(p[0]-other[0],p[1]-other[1])||1;
zoom(d(now)/d(was),(now[0]+other[0])/2-box.left,(now[1]+other[1])/2-box.top)}
fingers.set(e.pointerId,now)});
for(const end of ["pointerup","pointercancel"])
stage.addEventListener(end,e=>{fingers.delete(e.pointerId);cutting=false});
dialog.addEventListener("keydown",e=>{
if(e.target.tagName==="SELECT")return;
if(e.key==="ArrowRight")turn(1);else if(e.key==="ArrowLeft")turn(-1);
else if(e.key==="+"||e.key==="=")zoom(1.5);else if(e.key==="-")zoom(1/1.5);
else if(e.key==="0")fit()});
window.addEventListener("resize",()=>dialog.open&&fit());
})();
""".strip()
