// A skill prints its code as plain fences, for agents too. Here each pair stands in two columns, and
// below the name of each rule what the page's table of checks says about it.
for (const fence of document.querySelectorAll(".md-content__inner > .highlight")) {
  const title = fence.querySelector(".filename")?.textContent ?? "";
  const kind = title.match(/^(wrong|right|also right)\b/)?.[1];
  if (!kind) continue;
  const side = kind === "wrong" ? "wrong" : "right";
  fence.classList.add(side);
  let pair = fence.previousElementSibling;
  if (!pair?.matches(".pair") || (side === "wrong" && pair.querySelector(".right"))) {
    pair = document.createElement("div");
    pair.className = "pair";
    pair.append(document.createElement("div"), document.createElement("div"));
    fence.before(pair);
  }
  pair.children[side === "wrong" ? 0 : 1].append(fence);
}

for (const row of document.querySelectorAll(".md-content__inner tbody tr")) {
  const [rule, , check, servers] = row.cells;
  const link = servers && rule.querySelector("a");
  if (!link || new URL(link.href).pathname !== location.pathname) continue;
  const line = document.createElement("p");
  line.className = "proof";
  line.append("proven by ", ...check.cloneNode(true).childNodes, `, caught on ${servers.textContent}`);
  document.getElementById(link.hash.slice(1))?.after(line);
}

// What was above has another height now than when the browser went to the anchor.
document.getElementById(location.hash.slice(1))?.scrollIntoView();
