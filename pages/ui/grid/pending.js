// On pages without a grid: sends what an earlier page or a closed tab left behind, and shows nothing.
export default function ({ data }) {
  const { key, owner } = data;
  const courier = (shared.grids[key] ??= new Courier(key, outboxOf(owner), () => {}));
  if (courier.box.owner !== owner) return;
  const arrived = (part) => part === "wire" && (courier.answer(), courier.box.events.length && courier.soon());
  post.arrived[key] = arrived;
  if (courier.part) arrived("wire");
  return () => {
    courier.end();
    delete shared.grids[key];
    if (post.arrived[key] === arrived) delete post.arrived[key];
  };
}
