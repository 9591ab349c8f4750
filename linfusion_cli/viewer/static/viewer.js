// The page of `linfusion view`. All texts are a stranger's: they are set as text, never as HTML.
"use strict";
const $ = (id) => document.getElementById(id);
let state = window.LINFUSION;
let viewer = null;
let seen = {};

function element(name, text, parent) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (parent) parent.append(made);
  return made;
}

function openViewer(image) {
  $("waiting").hidden = true;
  viewer = OpenSeadragon({
    element: $("zoom"),
    showNavigationControl: false,
    showNavigator: true,
    navigatorPosition: "BOTTOM_LEFT",
    drawer: "canvas",
    maxZoomPixelRatio: 8,
    visibilityRatio: 0.5,
    animationTime: 0.4,
    gestureSettingsMouse: { clickToZoom: false, dblClickToZoom: true },
    tileSources: {
      width: image.width,
      height: image.height,
      tileSize: image.tile,
      tileOverlap: image.overlap,
      minLevel: 0,
      maxLevel: image.levels - 1,
      getTileUrl: (level, x, y) => `tiles/${level}/${x}_${y}.${image.ending}`,
    },
  });
  const scale = () => {
    const item = viewer.world.getItemAt(0);
    if (!item) return;
    const percent = 100 * item.viewportToImageZoom(viewer.viewport.getZoom(true)) * (window.devicePixelRatio || 1);
    $("scale").textContent = `${percent >= 10 ? Math.round(percent) : percent.toFixed(1)} %`;
  };
  viewer.addHandler("animation", scale);
  viewer.addHandler("open", scale);
  $("in").onclick = () => viewer.viewport.zoomBy(1.6);
  $("out").onclick = () => viewer.viewport.zoomBy(1 / 1.6);
  $("home").onclick = () => viewer.viewport.goHome();
  $("full").onclick = () => {
    const item = viewer.world.getItemAt(0);
    viewer.viewport.zoomTo(item.imageToViewportZoom(1 / (window.devicePixelRatio || 1)));
  };
}

function showWaiting() {
  const image = state.image;
  const told = $("told");
  told.classList.toggle("error", Boolean(state.error));
  if (state.error) {
    told.textContent = state.error;
  } else if (!image) {
    told.textContent = `Waiting for ${state.name}`;
  } else {
    told.textContent = `Reading row ${image.rows.toLocaleString("en")} of ${image.height.toLocaleString("en")}`;
  }
  if (image && image.rows !== seen.rows) {
    seen.rows = image.rows;
    $("glance").src = `overview.jpg?rows=${image.rows}`;
  } else if (!image && state.preview && state.preview !== seen.glance) {
    seen.glance = state.preview;
    $("glance").src = `preview.jpg?at=${state.preview}`;
  }
  $("glance").hidden = !$("glance").getAttribute("src");
}

const FIRST = ["prompt", "negative_prompt", "seed", "width", "height", "preset", "model", "steps", "scheduler", "guidance_scale", "attention", "dtype", "device", "version"];

function showRecord() {
  const place = $("record");
  const found = state.record;
  if (!found || seen.record) return;
  seen.record = true;
  place.replaceChildren();
  const list = element("dl", undefined, place);
  for (const key of FIRST) {
    const value = found.record[key];
    if (value === undefined || value === "") continue;
    element("dt", key.replaceAll("_", " "), list);
    element("dd", String(value), list);
  }
  if (found.command) {
    element("p", "Make it again:", place);
    element("pre", found.command, place);
  }
  const more = element("details", undefined, place);
  element("summary", "The whole record", more);
  element("pre", JSON.stringify(found.record, null, 1), more);
}

function showMemory() {
  if (!state.memory || state.memory === seen.memory) return;
  seen.memory = state.memory;
  const url = state.live ? `memory.svg?at=${state.memory}` : "memory.svg";
  const link = document.createElement("a");
  link.href = url;
  link.target = "_blank";
  const image = element("img", undefined, link);
  image.src = url;
  image.alt = "Memory over time, with the phases";
  $("memory").replaceChildren(link);
  element("p", "Open it in a tab of its own to read the numbers.", $("memory"));
}

function showStages() {
  const text = JSON.stringify(state.stages);
  if (!state.stages.length || text === seen.stages) return;
  seen.stages = text;
  const place = $("stages");
  place.replaceChildren();
  const grid = element("div", undefined, place);
  grid.className = "stages";
  for (const stage of state.stages) {
    const figure = element("figure", undefined, grid);
    const image = element("img", undefined, figure);
    image.src = `stages/${stage.index}.jpg`;
    image.alt = `Stage ${stage.index}`;
    element("figcaption", `Stage ${stage.index}, ${stage.size}`, figure);
  }
}

function showPreview() {
  if (state.preview === null || state.preview === seen.preview) return;
  seen.preview = state.preview;
  const place = $("preview");
  if (!state.preview) {
    place.replaceChildren(element("p", "There is no preview yet."));
    return;
  }
  const image = document.createElement("img");
  image.alt = "The running step";
  image.src = `preview.jpg?at=${state.preview}`;
  image.onload = () => place.replaceChildren(image, element("p", `From ${new Date(state.preview).toLocaleTimeString()}`));
}

function showTabs() {
  const there = { record: Boolean(state.record), memory: Boolean(state.memory), stages: state.stages.length > 0, preview: state.live && state.preview !== null };
  const names = Object.keys(there).filter((name) => there[name]);
  const key = names.join();
  if (key === seen.tabs) return;
  seen.tabs = key;
  if (!names.includes(seen.tab)) seen.tab = !state.image && there.preview ? "preview" : names[0];
  const select = (chosen) => {
    seen.tab = chosen;
    for (const name of Object.keys(there)) $(name).hidden = name !== chosen;
    for (const button of $("tabs").children) button.setAttribute("aria-selected", String(button.dataset.name === chosen));
  };
  $("tabs").replaceChildren();
  for (const name of names) {
    const button = element("button", name[0].toUpperCase() + name.slice(1), $("tabs"));
    button.dataset.name = name;
    button.setAttribute("role", "tab");
    button.onclick = () => select(name);
  }
  select(seen.tab);
}

function show() {
  document.title = `${state.name} - linfusion`;
  $("name").textContent = state.name;
  const image = state.image;
  $("size").textContent = image ? `${image.width.toLocaleString("en")} x ${image.height.toLocaleString("en")} pixels${image.note ? `. ${image.note}` : ""}` : "";
  if (!viewer && image && image.ready) openViewer(image);
  if (!viewer) showWaiting();
  showRecord();
  showMemory();
  showStages();
  showPreview();
  showTabs();
}

async function refresh() {
  try {
    const answer = await fetch("status.json");
    if (answer.ok) {
      state = await answer.json();
      show();
    }
  } catch (error) {
    $("told").textContent = "linfusion view has ended";
  }
  window.setTimeout(refresh, viewer || state.error ? 1000 : 250);
}

show();
if (state.live) window.setTimeout(refresh, 250);
