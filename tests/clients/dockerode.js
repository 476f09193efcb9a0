// dockerode: streams of attach and exec, statistics, logs, events.
const assert = require('assert');
const { PassThrough } = require('stream');
const { once } = require('events');
const Docker = require('dockerode');

(async () => {
  const docker = new Docker();
  const settings = { Image: 'busybox:test', HostConfig: { NetworkMode: 'none' } };
  const gather = (container, stream) => {
    const [out, got] = [new PassThrough(), { text: '' }];
    out.on('data', (piece) => { got.text += piece; });
    container.modem.demuxStream(stream, out, out);
    return got;
  };

  const cat = await docker.createContainer({ ...settings, Cmd: ['cat'], OpenStdin: true, StdinOnce: true });
  const attached = await cat.attach({ stream: true, stdin: true, stdout: true, hijack: true });
  await cat.start();
  const said = gather(cat, attached);
  attached.write('hello\n');
  attached.end();
  assert.strictEqual((await cat.wait()).StatusCode, 0);
  if (!said.text) await once(attached, 'end');
  assert.strictEqual(said.text, 'hello\n');
  assert.strictEqual((await cat.logs({ stdout: true })).length, 8 + 6);
  await cat.remove();

  const sleeper = await docker.createContainer({ ...settings, Cmd: ['sleep', '1000'] });
  await sleeper.start();
  const added = await sleeper.exec({ Cmd: ['sh', '-c', 'echo out; exit 3'], AttachStdout: true });
  const stream = await added.start({ hijack: true });
  const told = gather(sleeper, stream);
  await once(stream, 'end');
  assert.deepStrictEqual([told.text, (await added.inspect()).ExitCode], ['out\n', 3]);
  assert((await sleeper.stats({ stream: false })).cpu_stats);
  await sleeper.remove({ force: true });

  const now = Math.floor(Date.now() / 1000);
  let events = 0;
  for await (const _ of await docker.getEvents({ since: 1, until: now + 1 })) events += 1;
  assert(events > 0);
  console.log('well');
})().catch((error) => { console.error(error); process.exit(1); });
