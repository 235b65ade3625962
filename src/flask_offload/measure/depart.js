// Leave the start page for the measured one, as a visitor would: follow a link, or submit the form.
// Fields of a form on this page that posts to the same URL (such as a CSRF token) come along.
({ url, method, fields }) => {
  if (method === "GET") {
    location.assign(url);
    return;
  }
  const known = [...document.forms].find((form) => form.action === url && form.method === "post");
  const data = known ? new FormData(known) : new FormData();
  const given = new Set(fields.map(([name]) => name));
  const form = document.createElement("form");
  form.method = "post";
  form.action = url;
  form.hidden = true;

  const add = (name, type) => {
    const input = document.createElement("input");
    input.type = type;
    input.name = name;
    form.append(input);
    return input;
  };
  for (const [name, value] of data) {
    if (!given.has(name) && typeof value === "string") add(name, "hidden").value = value;
  }
  for (const [name, value] of fields) {
    if (typeof value === "string") {
      add(name, "hidden").value = value;
      continue;
    }
    const bytes = Uint8Array.from(atob(value.base64), (letter) => letter.charCodeAt(0));
    const carrier = new DataTransfer();
    carrier.items.add(new File([bytes], value.filename, { type: value.type }));
    add(name, "file").files = carrier.files;
    form.enctype = "multipart/form-data";
  }
  document.body.append(form);
  HTMLFormElement.prototype.submit.call(form); // form.submit may be a field called "submit"
};
