// On pages without a grid: sends what an earlier page or a closed tab left behind, and shows nothing.
export default function ({ data }) {
  const { key, owner } = data;
  let courier = shared.grids[key];
  if (courier?.box.owner !== owner) {
    courier?.end();
    courier = shared.grids[key] = new Courier(key, outboxOf(owner), () => {});
  }
  const arrived = (part) => part === "wire" && (courier.answer(), courier.box.events.length && courier.soon());
  post.arrived[key] = arrived;
  if (courier.part) arrived("wire");
  return () => {
    if (post.arrived[key] !== arrived) return; // mounted again since
    courier.end();
    delete shared.grids[key];
    delete post.arrived[key];
  };
}
