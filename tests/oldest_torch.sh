#!/usr/bin/env bash
# tests/oldest_torch.sh FOLDER [pytest arguments ...]: the quick tests with torch's lower bound, from Debian 13.
# FOLDER becomes a Debian 13 system, or is one that an earlier call made. Needs root and debootstrap.
set -euo pipefail
checkout="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
mkdir -p "$1"
folder="$(cd "$1" && pwd)"
shift
distributed="$folder/usr/lib/python3/dist-packages/torch/distributed"
if [ ! -e "$folder/.complete" ]; then
    packages=ca-certificates,python3-torch,python3-torchvision,python3-venv,python3-dev,g++,git,make
    packages+=,libgl1,libglib2.0-0t64  # for opencv-python
    debootstrap --variant=minbase --include="$packages" trixie "$folder"
    cp -L /etc/resolv.conf "$folder/etc/resolv.conf"
    cp -L "${PIP_CERT:-/etc/ssl/certs/ca-certificates.crt}" "$folder/etc/ssl/certs/ca-certificates.crt"
    cp "$checkout/requirements/oldest_torch.txt" "$folder/tmp/"
    chroot "$folder" python3 -m venv --system-site-packages /opt/venv
    # Only wheels: nothing here can build Rust packages, and no other torch may come.
    PIP_CERT=/etc/ssl/certs/ca-certificates.crt chroot "$folder" /opt/venv/bin/python -m pip install -q \
        --only-binary :all: -r /tmp/oldest_torch.txt
    # Debian builds torch without libuv, which both ends of torchrun's store ask for.
    sed -i 's/multi_tenant=True,/multi_tenant=True, use_libuv=False,/' "$distributed/elastic/rendezvous/static_tcp_rendezvous.py"
    sed -i 's/is_master=False,/is_master=False, use_libuv=False,/' "$distributed/rendezvous.py"
    touch "$folder/.complete"
fi
mkdir -p "$folder/checkout"
# Mounts of a private namespace end with it. USE_LIBUV=0: the same for the processes' own store.
unshare --mount bash -euc '
    mount --bind "$1" "$0/checkout"; mount --bind /proc "$0/proc"; mount --rbind /dev "$0/dev"
    folder="$0"; shift
    exec chroot "$folder" env -i PATH=/usr/bin:/bin HOME=/root PYTHONPATH=/checkout PYTHONDONTWRITEBYTECODE=1 USE_LIBUV=0 \
        bash -c "cd /checkout && exec /opt/venv/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile \
                 -m \"not slow and not gpu\" \"\$@\"" pytest "$@"' "$folder" "$checkout" "$@"
version="$(chroot "$folder" /opt/venv/bin/python -c 'import torch; print(torch.__version__)' 2> /dev/null | tail -n 1)"
echo "test-oldest-torch: passed with torch $version"
