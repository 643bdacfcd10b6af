"""A cable with a delay: ``relay.py DELAY_MS PID PID`` joins tun0 of two processes' networks.

It stands for `tc netem`, which not every kernel has.
"""

import ctypes
import fcntl
import os
import queue
import struct
import sys
import threading
import time

CLONE_NEWNET = 0x40000000
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def open_tun(process):
    """File descriptor of a new tun0 in the network of ``process``; this thread is in that network afterwards."""
    with open(f'/proc/{process}/ns/net', encoding='ascii') as network:
        if ctypes.CDLL(None, use_errno=True).setns(network.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f'setns to the network of {process}')
    tun = os.open('/dev/net/tun', os.O_RDWR)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack('16sH22x', b'tun0', IFF_TUN | IFF_NO_PI))
    return tun


def read(tun, delay_s, packets):
    while True:
        packet = os.read(tun, 65536)
        packets.put((time.monotonic() + delay_s, packet))


def write(tun, packets):
    while True:
        due_s, packet = packets.get()
        time.sleep(max(0.0, due_s - time.monotonic()))
        try:
            os.write(tun, packet)
        except OSError:  # the interface is down: the packet is lost
            continue


def main():
    delay_s = float(sys.argv[1]) / 1000
    tuns = [open_tun(process) for process in sys.argv[2:4]]
    threads = []
    for source, target in (tuns, reversed(tuns)):
        packets = queue.Queue()
        threads += [threading.Thread(target=read, args=(source, delay_s, packets)),
                    threading.Thread(target=write, args=(target, packets))]
    for thread in threads:
        thread.daemon = True
        thread.start()
    threads[0].join()


if __name__ == '__main__':
    main()
