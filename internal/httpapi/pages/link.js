
"use strict";
// The token came in the fragment, which no server sees. It leaves the address bar at once, and this page only when the
// button is pressed: a mail scanner that opens the link changes nothing.
const token = new URLSearchParams(location.hash.slice(1)).get("token") || "";
history.replaceState(null, "", location.pathname);

const form = document.getElementById("form");
const problem = document.getElementById("problem");
const done = document.getElementById("done");
const password = document.getElementById("password");
const button = form.querySelector("button");

const complain = (text) => {
  problem.textContent = text;
  problem.hidden = false;
};

const explain = (answer, body) => {
  if (answer.status === 429 || answer.status === 503) {
    const wait = answer.headers.get("Retry-After");
    return "The service is busy. Try again in " + (wait || "a few") + " seconds.";
  }
  const details = (body.errors || []).map((e) => e.detail);
  return details.length ? details.join(" ") : (body.title || "Something went wrong") + ". " + (body.detail || "Try again later.");
};

const act = async () => {
  const wanted = { token };
  if (password) {
    wanted.new_password = password.value;
  }
  const answer = await fetch(document.querySelector("main").dataset.action, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(wanted),
    credentials: "omit",
    cache: "no-store",
    redirect: "error",
    referrerPolicy: "no-referrer",
  });
  if (answer.ok) {
    form.hidden = true;
    document.getElementById("intro").hidden = true;
    done.hidden = false;
    done.focus();
    return;
  }
  const body = await answer.json().catch(() => ({}));
  if (body.code === "link_invalid") {
    form.hidden = true;
  }
  complain(explain(answer, body));
};

form.addEventListener("submit", (event) => {
  event.preventDefault();
  problem.hidden = true;
  button.disabled = true;
  act()
    .catch(() => complain("The service could not be reached. Check your connection and try again."))
    .finally(() => { button.disabled = false; });
});

if (password) {
  document.getElementById("show").addEventListener("change", (event) => {
    password.type = event.target.checked ? "text" : "password";
  });
}

if (token) {
  form.hidden = false;
} else {
  complain("The link is not complete. Open it from the mail again.");
}
