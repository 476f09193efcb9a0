// testcontainers for Node: start, wait for a line, the mapped port, exec, copy, stop.
const assert = require('assert');
const { GenericContainer, Wait } = require('testcontainers');

(async () => {
  const server = await new GenericContainer('busybox:test')
    .withCommand(['sh', '-c', 'echo ready; exec httpd -f -p 80 -h /etc'])
    .withExposedPorts(80)
    .withWaitStrategy(Wait.forLogMessage('ready'))
    .start();
  const answer = await fetch(`http://${server.getHost()}:${server.getMappedPort(80)}/passwd`);
  assert((await answer.text()).startsWith('root:'));
  await server.copyContentToContainer([{ content: 'carried', target: '/tmp/there' }]);
  const { output, exitCode } = await server.exec(['cat', '/tmp/there']);
  assert.deepStrictEqual([output, exitCode], ['carried', 0]);
  await server.stop();
  console.log('well');
})().catch((error) => { console.error(error); process.exit(1); });
