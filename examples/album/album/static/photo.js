// When the thumbnails are there, or can't be made, show that.
for (const event of ["offload:done", "offload:failed"]) {
  document.addEventListener(event, () => location.reload());
}
