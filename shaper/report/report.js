// Filters the table of decisions as one types, and shows what a mark stands for at once.
const box=document.getElementById("filter"),count=document.getElementById("count");
if(box)box.addEventListener("input",()=>{const want=box.value.toLowerCase();let shown=0;
const rows=document.querySelectorAll("#decisions tbody tr");
for(const row of rows){row.hidden=!row.textContent.toLowerCase().includes(want);shown+=!row.hidden}
count.textContent=want?`${shown} of ${rows.length}`:"";});
const tip=document.createElement("div");tip.id="tip";tip.hidden=true;document.body.append(tip);
document.addEventListener("pointerover",event=>{const mark=event.target.closest("svg [data-tip],svg :has(>title)");
if(!mark){tip.hidden=true;return}
const title=mark.querySelector("title");
// Taken off, or the browser would show it too.
if(title){mark.dataset.tip=title.textContent;mark.setAttribute("aria-label",title.textContent);title.remove()}
tip.textContent=mark.dataset.tip;tip.hidden=false;});
document.addEventListener("pointermove",event=>{if(tip.hidden)return;
const left=Math.min(event.clientX+14,innerWidth-tip.offsetWidth-8),below=event.clientY+16;
tip.style.left=`${Math.max(8,left)}px`;
tip.style.top=`${below+tip.offsetHeight>innerHeight?event.clientY-tip.offsetHeight-10:below}px`;});
