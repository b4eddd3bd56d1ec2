"use strict";
(() => {
  const numberOf = (text) => {
    const found = text.replace("–", "").match(/^[<+\-]?\s*\d+(\.\d+)?/);
    return found ? parseFloat(found[0].replace("<", "")) : null;
  };
  const compare = (a, b) => {
    if (a === "" || b === "") return a === b ? 0 : a === "" ? 1 : -1; // what is empty comes last
    const [x, y] = [numberOf(a), numberOf(b)];
    return x !== null && y !== null && x !== y ? x - y : a.localeCompare(b, "en", { numeric: true });
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = head.textContent;
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.removeAttribute("aria-sort");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const text = (row) => row.cells[place].textContent.trim();
        const rows = [...table.tBodies[0].rows].sort((a, b) => {
          const order = compare(text(a), text(b));
          return down && text(a) !== "" && text(b) !== "" ? -order : order;
        });
        table.tBodies[0].append(...rows);
      });
    });
  }

  for (const point of document.querySelectorAll('svg [id*="-case-"]')) {
    const readout = point.closest("figure").querySelector(".readout");
    const tell = () => { readout.textContent = point.querySelector("title").textContent; };
    point.addEventListener("pointerenter", tell);
    point.addEventListener("click", tell);
  }

  const source = document.getElementById("viewer-data");
  if (!source) return;
  const byId = (name) => document.getElementById(`viewer-${name}`);
  const { cases, classes } = JSON.parse(source.textContent);
  const [select, layer, view, opacity, canvas, status] =
    ["case", "layer", "view", "opacity", "canvas", "status"].map(byId);
  const box = document.querySelector(".viewer");
  document.querySelector("#viewer .without-script").hidden = true;
  box.hidden = false;

  const option = (words) => new Option(words);
  const fill = (list, names) => { list.replaceChildren(...names.map(option)); };
  fill(select, cases.map((one) => one.name));
  const fillLayers = () => fill(layer, [...cases[select.selectedIndex].layers.map((one) => one.name), "none"]);
  fillLayers();
  layer.selectedIndex = Math.min(1, layer.length - 1);

  const loadLibrary = async () => {
    const packed = Uint8Array.from(atob(byId("library").textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
    if (!window.niivue) throw new Error("the viewer's program did not start");
  };
  const colours = () => {
    const parts = [0, 1, 2].map((place) => [0, ...classes.map(([, hex]) => parseInt(hex.slice(1 + 2 * place, 3 + 2 * place), 16))]);
    const [R, G, B] = parts;
    return { R, G, B, A: [0, ...classes.map(() => 255)], I: R.map((_, place) => place), labels: ["", ...classes.map(([name]) => name)] };
  };

  let viewer = null;
  let shown = 0;
  const show = async () => {
    const turn = ++shown;
    const { NVImage } = window.niivue;
    const one = cases[select.selectedIndex];
    const part = one.layers[layer.selectedIndex];
    const image = await NVImage.loadFromBase64({ base64: one.image, name: "image.nii.gz", colormap: "gray", cal_min: 0, cal_max: 255 });
    const overlay = part && await NVImage.loadFromBase64({ base64: part.data, name: "layer.nii.gz", opacity: opacity.value / 100 });
    if (turn !== shown) return;
    while (viewer.volumes.length) viewer.removeVolumeByIndex(0);
    viewer.addVolume(image);
    if (overlay) {
      overlay.setColormapLabel(colours());
      viewer.addVolume(overlay);
    }
    viewer.scene.crosshairPos = viewer.mm2frac(one.focus);
    viewer.updateGLVolume();
    status.textContent = `${one.name}; ${part ? part.name : "no overlay"}. Drag to move the cross; scroll to change the slice.`;
    canvas.dataset.ready = String(turn);
  };
  const setView = () => {
    const kinds = { multi: 3, axial: 0, coronal: 1, sagittal: 2, render: 4 };
    viewer.setSliceType(kinds[view.value]);
  };
  const start = async () => {
    status.textContent = "The viewer starts …";
    await loadLibrary();
    viewer = new window.niivue.Niivue({
      backColor: [0, 0, 0, 1], isRadiologicalConvention: true, sagittalNoseLeft: true, dragAndDropEnabled: false, loadingText: "",
      show3Dcrosshair: true, crosshairWidth: 0.3, crosshairColor: [1, 1, 1, 0.55], multiplanarLayout: 2,
      multiplanarPadPixels: 4, isColorbar: false, isOrientCube: false, logLevel: "error", multiplanarShowRender: 1,
    });
    await viewer.attachToCanvas(canvas);
    setView();
    await show();
    select.addEventListener("change", () => {
      const kept = layer.selectedIndex;
      fillLayers();
      layer.selectedIndex = Math.min(kept, layer.length - 1);
      guarded(show);
    });
    layer.addEventListener("change", () => guarded(show));
    view.addEventListener("change", setView);
    opacity.addEventListener("input", () => {
      if (viewer.volumes.length > 1) viewer.setOpacity(1, opacity.value / 100);
    });
  };
  const guarded = (work) => work().catch((error) => {
    status.textContent = `The viewer cannot show this here (${error.message}). The slices above show the same cases.`;
  });
  const seen = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) {
      seen.disconnect();
      guarded(start);
    }
  }, { rootMargin: "300px" });
  seen.observe(box);
})();
