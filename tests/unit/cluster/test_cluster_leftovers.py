from pathlib import Path

from solera_cluster import leftovers, network

MOUNTINFO = """\
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw
61 27 254:0 /x /cache/cluster/main/kubelet rw shared:1 - ext4 /dev/vda rw
62 61 0:40 / /cache/cluster/main/kubelet/pods/a\\040b rw - tmpfs tmpfs rw
63 27 0:41 / /cache/cluster/mainly/other rw - tmpfs tmpfs rw
"""


def test_mounts_below_a_directory_come_innermost_first():
    assert leftovers.mount_points(MOUNTINFO, Path("/cache/cluster/main")) == [
        "/cache/cluster/main/kubelet/pods/a b",
        "/cache/cluster/main/kubelet",
    ]


def test_routes_in_the_clusters_ranges_are_found():
    routes = '[{"dst": "default", "dev": "eth0"}, {"dst": "10.222.0.0/16", "dev": "tun0"}, {"dst": "10.22.0.0/16"}]'
    assert network.conflicting_routes(routes) == ["10.222.0.0/16 dev tun0"]
    assert network.conflicting_routes("") == []
