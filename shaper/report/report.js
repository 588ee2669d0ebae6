// Filters the table of decisions as one types.
const box=document.getElementById("filter");
if(box)box.addEventListener("input",()=>{const want=box.value.toLowerCase();
for(const row of document.querySelectorAll("#decisions tbody tr"))
row.hidden=!row.textContent.toLowerCase().includes(want);});
