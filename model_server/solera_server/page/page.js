"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const at = (id) => document.getElementById(id);
  const SHOWN = 15, EVERY = 2000, KEPT = 60;

  /* Everything that is shown goes through textContent: names and classes are foreign. */
  const element = (tag, name, text) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const number = (value) => {
    if (typeof value !== "number") return String(value);
    if (value === 0 || (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e6)) return String(+value.toPrecision(4));
    return value.toExponential(2);
  };

  /* ---- the form ---- */
  const value = (feature, index) => {
    if (!at("f" + index)) return data.example[feature.name];
    const missing = at("m" + index);
    if (missing && missing.checked) return null;
    const text = at("f" + index).value;
    if (feature.type === "Boolean") return text === "true";
    if (feature.type !== "Float" && feature.type !== "Integer") return text;
    if (text.trim() === "") return null;
    const parsed = Number(text);
    /* What is no number goes as it is: the server says what it expected. */
    return Number.isFinite(parsed) ? parsed : text.trim();
  };
  data.features.forEach((_, index) => {
    const missing = at("m" + index);
    if (missing) missing.addEventListener("change", () => { at("f" + index).disabled = missing.checked; });
  });

  const ask = async (path, body) => {
    const answer = await fetch(path, {
      method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(body),
    }).catch(() => { throw new Error("the server does not answer"); });
    const told = await answer.json();
    if (!answer.ok) throw new Error(told.error || "the server answered " + answer.status);
    return told;
  };
  /* The server names the place and the datatype in the request; here it is the feature and its type. */
  const named = (text) => {
    for (const [index, feature] of data.features.entries()) {
      const place = "inputs[" + index + "](" + feature.name + ").data[0]";
      if (text.startsWith(place)) {
        const rest = text.slice(place.length);
        return feature.name + rest.replace("expected " + feature.datatype + ",", "expected " + feature.type + ",");
      }
    }
    return text;
  };

  const track = (parts, middle) => {
    const holder = element("div", middle ? "track middle" : "track");
    const bar = element("div", parts.name);
    bar.style.left = parts.left + "%";
    bar.style.width = parts.width + "%";
    holder.append(bar);
    holder.setAttribute("aria-hidden", "true");
    return holder;
  };
  const line = (name, text, bar, kind) => {
    const row = element("tr", kind);
    const label = element("th", "", name);
    label.scope = "row";
    const cell = element("td");
    if (bar) cell.append(bar);
    row.append(label, cell, element("td", "number", text));
    return row;
  };
  const table = (rows) => {
    const made = element("table", "bars"), body = element("tbody");
    body.append(...rows);
    made.append(body);
    return made;
  };

  const percent = (share) => {
    if (share > 0 && share < 0.00001) return "< 0.001 %";
    return (100 * share).toFixed(share < 0.0005 && share > 0 ? 3 : 1) + " %";
  };
  const probabilities = (shares) => table(shares.map((share, index) => line(
    String(data.classes[index]), percent(share),
    track({name: "bar", left: 0, width: 100 * share}, false),
  )));

  const contributions = (explained, method, scale) => {
    const all = Object.entries(explained.contributions).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
    const first = all.slice(0, SHOWN), rest = all.slice(SHOWN);
    const signed = (part) => (part > 0 ? "+" : "") + number(part);
    const largest = Math.max(...first.map(([, part]) => Math.abs(part)), 1e-300);
    const rows = [line("base value", number(explained.base_value))];
    for (const [name, part] of first) {
      const width = 50 * Math.abs(part) / largest;
      const bar = {name: part < 0 ? "bar down" : "bar up", left: part < 0 ? 50 - width : 50, width};
      rows.push(line(name, signed(part), track(bar, true)));
    }
    if (rest.length) rows.push(line(rest.length + " others", signed(rest.reduce((sum, [, part]) => sum + part, 0))));
    rows.push(line("output", number(explained.output), null, "total"));
    const holder = element("div");
    holder.append(element("h3", "", "What each feature contributed"), table(rows));
    const whose = "class" in explained ? " of “" + explained.class + "”" : "";
    holder.append(element("p", "note", "Scale: " + scale + whose + ". Method: " + method + ". The parts add up to the output."));
    return holder;
  };

  const show = (...parts) => at("answer").replaceChildren(...parts);
  at("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const button = event.target.querySelector("button");
    button.disabled = true;
    try {
      const values = data.features.map(value);
      const name = encodeURIComponent(data.model);
      const inputs = data.features.map((feature, index) => (
        {name: feature.name, shape: [1], datatype: feature.datatype, data: [values[index]]}
      ));
      const started = performance.now();
      const answer = await ask("v2/models/" + name + "/infer", {inputs});
      const took = performance.now() - started;
      const found = Object.fromEntries(answer.outputs.map((output) => [output.name, output.data]));
      const parts = [element("p", "prediction", number(found.predict[0]))];
      parts.push(element("p", "note", data.target + ", answered in " + took.toFixed(1) + " ms as seen from here"));
      if (found.predict_proba && data.classes) parts.push(probabilities(found.predict_proba));
      if (data.explains) {
        const instance = Object.fromEntries(data.features.map((feature, index) => [feature.name, values[index]]));
        try {
          const told = await ask("v1/models/" + name + ":explain", {instances: [instance]});
          parts.push(contributions(told.explanations[0], told.method, told.scale));
        } catch (error) {
          parts.push(element("p", "error", "No explanation: " + error.message));
        }
      } else {
        parts.push(element("p", "note", "This model cannot be explained: " + data.why_not));
      }
      show(...parts);
    } catch (error) {
      show(element("p", "error", named(error.message)));
    } finally {
      button.disabled = false;
    }
  });

  /* ---- the traffic ---- */
  const seen = [];
  const quantile = (bounds, counts, share) => {
    const all = counts.reduce((sum, count) => sum + count, 0);
    if (!all) return null;
    let below = 0;
    for (let index = 0; index < counts.length; index++) {
      if (below + counts[index] >= share * all) {
        if (index === bounds.length) return Infinity;
        const low = index ? bounds[index - 1] : 0;
        return low + (bounds[index] - low) * (share * all - below) / counts[index];
      }
      below += counts[index];
    }
    return null;
  };
  const time = (seconds, bounds) => {
    if (seconds === null) return "–";
    if (seconds === Infinity) return "> " + bounds[bounds.length - 1] + " s";
    return seconds < 1 ? number(+(1000 * seconds).toPrecision(2)) + " ms" : number(+seconds.toPrecision(2)) + " s";
  };
  const state = (text, name) => { at("state").textContent = text; at("state").className = "state " + name; };

  const look = async () => {
    try {
      const answer = await fetch("page/live", {cache: "no-store"});
      if (!answer.ok) throw new Error("the server answered " + answer.status);
      const now = {when: performance.now() / 1000, ...await answer.json()};
      /* Counters only fall when the server was started anew. */
      if (seen.length && now.requests < seen[seen.length - 1].requests) seen.length = 0;
      seen.push(now);
      if (seen.length > KEPT + 1) seen.shift();
      const before = seen[0], rates = seen.slice(1).map((one, index) => (
        (one.requests - seen[index].requests) / Math.max(one.when - seen[index].when, 0.1)
      ));
      const recent = now.latency.map((count, index) => count - before.latency[index]);
      at("rate").textContent = rates.length ? number(+rates[rates.length - 1].toPrecision(3)) : "–";
      at("median").textContent = time(quantile(now.buckets, recent, 0.5), now.buckets);
      at("slow").textContent = time(quantile(now.buckets, recent, 0.99), now.buckets);
      at("total").textContent = String(now.requests);
      at("errors").textContent = String(now.errors);
      const top = Math.max(...rates, 1);
      at("line").setAttribute("points", rates.map((rate, index) => (
        (300 - 5 * (rates.length - 1 - index)).toFixed(1) + "," + (46 - 44 * rate / top).toFixed(1)
      )).join(" "));
      state(now.ready ? "ready" : "not ready", now.ready ? "good" : "bad");
    } catch (error) {
      state("no answer", "bad");
    }
    setTimeout(look, EVERY);
  };
  look();
})();
