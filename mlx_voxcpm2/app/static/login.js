document.getElementById("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const wrong = document.getElementById("wrong");
  const password = document.getElementById("password");
  wrong.hidden = true;
  const answer = await fetch("login", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ password: password.value }),
  }).catch(() => null);
  if (answer?.ok) return location.replace("./");
  wrong.textContent = answer ? (await answer.json()).error.message : "The page does not answer.";
  wrong.hidden = false;
  password.select();
});
