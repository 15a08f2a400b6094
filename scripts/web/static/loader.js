// The component's entry: the rest are modules that the server gives out as files.
export default function ({ data, parentElement }) {
  const modules = import(`${location.origin}${data.modules}/mixer.js`);
  modules.then(({ mount }) => mount(parentElement, data));
  return () => modules.then(({ unmount }) => unmount(parentElement));
}
