// Copies commands, and reads a chart out where the pointer is. Pages say everything without it.
document.querySelectorAll("[data-copy]").forEach(function (button) {
  button.addEventListener("click", function () {
    navigator.clipboard.writeText(button.dataset.copy).then(function () {
      button.textContent = "copied";
      setTimeout(function () { button.textContent = "copy"; }, 1200);
    });
  });
});
document.querySelectorAll(".chart").forEach(function (chart) {
  var seconds = JSON.parse(chart.querySelector("script").textContent);
  var end = Number(chart.dataset.end);
  var plot = chart.querySelector(".plot");
  var cross = chart.querySelector(".cross");
  var read = chart.querySelector(".read");
  function hide() { cross.style.display = read.style.display = "none"; }
  chart.addEventListener("mouseleave", hide);
  chart.addEventListener("mousemove", function (event) {
    var box = plot.getBoundingClientRect();
    var outer = chart.getBoundingClientRect();
    var part = (event.clientX - box.left) / box.width;
    if (0 > part || part > 1) { return hide(); }
    var ms = part * end;
    var said = seconds[Math.floor(ms / 1000)];
    cross.style.display = read.style.display = "block";
    cross.style.left = event.clientX - outer.left + "px";
    read.textContent = (ms / 1000).toFixed(2) + " s" + (said ? " — " + said : "");
    var left = event.clientX - outer.left - read.offsetWidth / 2;
    read.style.left = Math.max(0, Math.min(left, outer.width - read.offsetWidth)) + "px";
  });
});
