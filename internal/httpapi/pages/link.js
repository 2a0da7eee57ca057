"use strict";
// The page of a mailed link: it takes the token out of the address bar, and uses it when the button is pressed, not before.
(() => {
  const token = new URLSearchParams(location.hash.slice(1)).get("token") || "";
  history.replaceState(null, "", location.pathname);
  addEventListener("hashchange", () => location.reload()); // another link was opened in this very tab

  const find = (id) => document.getElementById(id);
  const form = find("form"), problem = find("problem"), button = find("send"), password = find("new_password"), wrong = find("new_password_wrong");

  const say = (text) => { problem.textContent = text; };
  if (!token) {
    say("This link is not complete. Open it again from the mail, or copy all of it.");
    return;
  }
  form.hidden = false;

  if (password) {
    find("show").addEventListener("change", (event) => { password.type = event.target.checked ? "text" : "password"; });
  }

  const clear = () => {
    say("");
    if (password) {
      wrong.replaceChildren();
      password.removeAttribute("aria-invalid");
    }
  };

  const blame = (errors) => {
    for (const error of errors) {
      const item = document.createElement("li");
      item.textContent = error.detail;
      wrong.append(item);
    }
    password.setAttribute("aria-invalid", "true");
    password.focus();
  };

  const refuse = (answer, found) => {
    const errors = Array.isArray(found.errors) ? found.errors : [];
    const ours = password ? errors.filter((error) => error.pointer === "/new_password") : [];
    const wait = Number(answer.headers.get("Retry-After"));
    if (found.code === "link_invalid") {
      form.hidden = true;
      say(form.dataset.invalid);
    } else if (wait > 0) {
      say(`This cannot be done right now. Try again in ${wait} ${wait === 1 ? "second" : "seconds"}.`);
    } else if (ours.length > 0) {
      blame(ours);
    } else {
      say([found.title, found.detail].filter(Boolean).join(". ") || "Something went wrong. Try again later.");
    }
  };

  const finish = (found) => {
    const done = find("done");
    for (const place of done.querySelectorAll("[data-member]")) {
      const value = found[place.dataset.member];
      place.textContent = value === null || value === undefined ? "none" : String(value);
    }
    form.hidden = true;
    if (password) {
      password.value = "";
    }
    done.hidden = false;
    done.focus();
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    clear();
    button.disabled = true;
    try {
      const answer = await fetch(form.dataset.action, {
        method: "POST", credentials: "omit", cache: "no-store", redirect: "error",
        headers: { "Content-Type": "application/json", Accept: "application/json, application/problem+json" },
        body: JSON.stringify(password ? { token, new_password: password.value } : { token }),
      });
      const found = await answer.json().catch(() => ({})); // 204 has no body
      (answer.ok ? finish(found) : refuse(answer, found));
    } catch {
      say("The service could not be reached. Check your connection and try again.");
    } finally {
      button.disabled = false;
    }
  });
})();
