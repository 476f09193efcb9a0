"""testcontainers for Python: start, wait for a line, the mapped port, exec, stop."""
import urllib.request

from testcontainers.core.container import DockerContainer
from testcontainers.core.waiting_utils import wait_for_logs

server = DockerContainer("busybox:test").with_command("sh -c 'echo ready; exec httpd -f -p 80 -h /etc'")
with server.with_exposed_ports(80) as running:
    wait_for_logs(running, "ready")
    assert running.exec("cat /etc/passwd").exit_code == 0
    address = f"http://{running.get_container_host_ip()}:{running.get_exposed_port(80)}/passwd"
    assert urllib.request.urlopen(address).read().startswith(b"root:")
print("well")
