#!/bin/bash
# Builds a small guest for tests: a qcow2 image that boots to a DHCP address in a few seconds.
#
#   build.sh OUT.qcow2
#
# Everything in it is a Debian package: the cloud kernel, busybox, syslinux. It is put together in
# user space (mtools, mke2fs -d), so it needs neither a mount nor a loop device. What the guest
# does is in initramfs/ and root/; README.md says what a test can expect of it.
#
# An image that is newer than everything in this folder is left as it is, and who comes while
# another builds it waits: so whoever needs the image just calls this. The kernel's package is
# kept in OUT's folder, under kernel/, for the next build.
set -euo pipefail

PROGRAMS=(qemu-img syslinux mcopy mkfs.vfat sfdisk mke2fs cpio busybox xz)
PACKAGES=(qemu-utils syslinux syslinux-common mtools dosfstools fdisk e2fsprogs cpio
  busybox-static xz-utils)
BOOT_MIB=24 # FAT: boot loader, kernel, initramfs
ROOT_MIB=24 # ext4: what the guest may write to

# Loaded in this order; one that a kernel has built in, or does not have, is passed over.
MODULES=(virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk
  failover net_failover dimlib virtio_net button evdev)

[ $# -eq 1 ] || { sed -n '2,12s/^# \{0,1\}//p' "$0" >&2; exit 2; }
here=$(dirname "$(realpath "$0")")
out=$(realpath --canonicalize-missing "$1")
export PATH=$PATH:/usr/sbin:/sbin DEBIAN_FRONTEND=noninteractive MTOOLS_SKIP_CHECK=1

need_programs() {
  local program missing=()
  for program in "${PROGRAMS[@]}"; do
    command -v "$program" >/dev/null || missing+=("$program")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    echo "missing: ${missing[*]}; as root: apt-get install ${PACKAGES[*]}" >&2
    exit 1
  fi
  apt-get update --quiet=2
  apt-get install --yes --quiet=2 --no-install-recommends "${PACKAGES[@]}" >/dev/null
}

# Unpacks the newest cloud kernel of this Debian into $1.
unpack_kernel() {
  local cache package
  cache=$(dirname "$out")/kernel
  mkdir -p "$cache"
  package=$(find "$cache" -name 'linux-image-*.deb' -print -quit)
  if [ -z "$package" ]; then
    local name list='/Depends: linux-image-[0-9]/{print $2; exit}'
    name=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk "$list") || true
    if [ -z "$name" ]; then
      apt-get update --quiet=2
      name=$(apt-cache depends linux-image-cloud-amd64 | awk "$list")
    fi
    mkdir -p "$work/download"
    # By root, not by apt's own user, to whom the folder is closed.
    (cd "$work/download" && apt-get download --quiet=2 -o APT::Sandbox::User=root "$name" >&2)
    mv "$work"/download/*.deb "$cache"
    package=$(find "$cache" -name 'linux-image-*.deb' -print -quit)
  fi
  dpkg --extract "$package" "$1"
}

# Only what finds the root file system.
make_initramfs() {
  local tree=$work/initramfs number=10 name file
  mkdir -p "$tree"/{bin,proc,sys,dev,root,modules}
  cp "$(command -v busybox)" "$tree/bin/busybox"
  cp "$here/initramfs/init" "$tree/init"
  for name in "${MODULES[@]}"; do
    file=$(find "$work/kernel" -name "$name.ko*" -print -quit)
    [ -n "$file" ] || continue
    cp "$file" "$tree/modules/$number-${file##*/}"
    number=$((number + 1))
  done
  find "$tree/modules" -name '*.xz' -exec xz --decompress {} +
  chmod +x "$tree/init"
  (cd "$tree" && find . | cpio --create --format=newc --owner=0:0 --quiet | gzip -9) \
    >"$work/initramfs.gz"
}

make_root() {
  local tree=$work/root applet
  mkdir -p "$tree"/{bin,sbin,etc,proc,sys,dev,tmp,run,data}
  cp "$(command -v busybox)" "$tree/bin/busybox"
  cp -r "$here/root/." "$tree"
  for applet in $("$tree/bin/busybox" --list); do
    [ -e "$tree/bin/$applet" ] || ln -s busybox "$tree/bin/$applet"
  done
  echo 'root::0:0:root:/:/bin/sh' >"$tree/etc/passwd"
  chmod +x "$tree"/sbin/* "$tree"/www/cgi-bin/* "$tree"/etc/acpi/PWRF/*
  truncate --size="${ROOT_MIB}M" "$work/root.ext4"
  mke2fs -q -t ext4 -O ^metadata_csum,^64bit -E root_owner=0:0,lazy_itable_init=0 \
    -d "$tree" "$work/root.ext4"
}

make_boot() {
  # No mitigations and no random layout: a guest of a test has nothing to protect, and both cost
  # time where instructions are emulated.
  cat >"$work/syslinux.cfg" <<CONFIG
DEFAULT guest
PROMPT 0
TIMEOUT 0
LABEL guest
  KERNEL vmlinuz
  APPEND initrd=initrd.gz console=ttyS0,115200 quiet net.ifnames=0 panic=5 mitigations=off nokaslr no_timer_check tsc=reliable random.trust_cpu=1 cryptomgr.notests
CONFIG
  truncate --size="${BOOT_MIB}M" "$work/boot.fat"
  mkfs.vfat -F 16 "$work/boot.fat" >/dev/null
  syslinux --install "$work/boot.fat"
  mcopy -i "$work/boot.fat" "$work"/kernel/boot/vmlinuz-* ::vmlinuz
  mcopy -i "$work/boot.fat" "$work/initramfs.gz" ::initrd.gz
  mcopy -i "$work/boot.fat" "$work/syslinux.cfg" ::syslinux.cfg
}

make_disk() {
  local disk=$work/disk.raw boot=$((BOOT_MIB * 2048)) root=$((ROOT_MIB * 2048))
  truncate --size=$((BOOT_MIB + ROOT_MIB + 1))M "$disk"
  sfdisk --quiet "$disk" <<TABLE
label: dos
start=2048, size=$boot, type=e, bootable
start=$((2048 + boot)), size=$root, type=83
TABLE
  dd if=/usr/lib/syslinux/mbr/mbr.bin of="$disk" bs=440 count=1 conv=notrunc status=none
  dd if="$work/boot.fat" of="$disk" bs=1M seek=1 conv=notrunc,sparse status=none
  dd if="$work/root.ext4" of="$disk" bs=1M seek=$((1 + BOOT_MIB)) conv=notrunc,sparse status=none
  # Renamed when it is whole: who finds OUT may use it.
  qemu-img convert -c -O qcow2 "$disk" "$work/disk.qcow2"
  mv "$work/disk.qcow2" "$out"
}

mkdir -p "$(dirname "$out")"
exec 9>"$out.lock"
flock 9
if [ -e "$out" ] && [ -z "$(find "$here" -newer "$out" -print -quit)" ]; then exit 0; fi
need_programs
work=$(mktemp --directory "$out.XXXXXX")
trap 'rm -rf "$work"' EXIT
unpack_kernel "$work/kernel"
make_initramfs
make_root
make_boot
make_disk
