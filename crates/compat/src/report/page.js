document.querySelector("table").addEventListener("click",function(event){
var button=event.target.closest("button");if(!button)return;
var row=document.getElementById(button.getAttribute("aria-controls"));
var open=row.classList.toggle("open");button.setAttribute("aria-expanded",open)})
