#!/bin/sh
# The images of the delta bench, made of Debian's packages in the folder $1; each step keeps what is there already.
# Needs root, a loop device and Debian's archive.
set -eu
cd "$1"
release=bookworm
# Where this machine's own packages of suite $1 come from.
archive() {
    apt-get indextargets --format '$(REPO_URI)' "Codename: $1" "Created-By: Packages" | head -n 1
}
mirror=${DEBIAN_MIRROR:-$(archive $release)}
security=${DEBIAN_SECURITY:-$(archive $release-security)}
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
size=4G start=1048576
top=$PWD/mounted loop=

leave() {
    for part in proc dev ""; do
        mountpoint -q "$top/$part" && umount "$top/$part"
    done
    [ -z "$loop" ] || losetup -d "$loop"
    loop=
}
trap leave EXIT

# The filesystem of image $1 as a device.
attach() {
    loop=$(losetup -f --show -o $start --sizelimit $(($(stat -c %s "$1") - start)) "$1")
}

# Mounts it.
enter() {
    mkdir -p "$top"
    attach "$1"
    mount -o nodiscard "$loop" "$top"
}

# Runs a command in the guest.
inside() {
    mountpoint -q "$top/proc" || mount -t proc proc "$top/proc"
    mountpoint -q "$top/dev" || mount --bind /dev "$top/dev"
    chroot "$top" sh -ec "$1" </dev/null >>"$PWD/corpus.log" 2>&1
}

# Downloaded packages are kept outside, but pass through the guest as they do in a real one.
install() {
    inside "apt-get -y -q --no-install-recommends install $*"
}

network() {
    cp -L /etc/resolv.conf /etc/hosts "$top/etc/"
    printf '#!/bin/sh\nexit 101\n' >"$top/usr/sbin/policy-rc.d"
    chmod 755 "$top/usr/sbin/policy-rc.d"
    echo "deb $mirror $release main" >"$top/etc/apt/sources.list"
}

updates() {
    echo "deb $security $release-security main" >>"$top/etc/apt/sources.list"
    inside "apt-get -q update"
}

# Makes image $1 of the folder that is mounted.
disk() {
    truncate -s $size "$1.new"
    printf 'label-id: 0x5eedba5e\n2048,,L,*\n' | sfdisk -q --label dos "$1.new"
    mke2fs -q -t ext4 -b 4096 -F -U 5eedba5e-0000-4000-8000-000000000001 -E offset=$start -d "$2" "$1.new" \
        $(($(stat -c %s "$1.new") / 4096 - start / 4096 - 8))
    mv "$1.new" "$1"
}

# A guest is put together in the folder $1.
strap() {
    rm -rf "$1"
    mkdir -p packages
    debootstrap --variant=minbase --cache-dir="$PWD/packages" $release "$1" "$mirror" >>corpus.log 2>&1
    mkdir -p "$top"
    mount --bind "$1" "$top"
    network
}

copy() {
    cp --sparse=always "$1" "$2.new"
}

if [ ! -e base.raw ]; then
    strap tree
    inside "apt-get -q update"
    install linux-image-amd64 systemd-sysv openssh-server python3 perl vim git build-essential nginx-light man-db \
        locales rsync curl python3-pip gdb
    inside "apt-get clean"
    leave
    disk base.raw tree
    rm -rf tree
fi

if [ ! -e small.raw ]; then
    copy base.raw small.raw
    enter small.raw.new
    echo changed >"$top/etc/hostname"
    leave
    mv small.raw.new small.raw
fi

if [ ! -e update.raw ]; then
    copy base.raw update.raw
    enter update.raw.new
    updates
    inside "apt-get -y -q install openssh-server git"
    leave
    mv update.raw.new update.raw
fi

if [ ! -e kernel.raw ]; then
    copy base.raw kernel.raw
    enter kernel.raw.new
    updates
    install linux-image-amd64
    inside "apt-get clean"
    leave
    mv kernel.raw.new kernel.raw
fi

if [ ! -e a.raw ]; then
    copy base.raw a.raw
    enter a.raw.new
    updates
    inside "apt-get -y -q upgrade"
    install clang ruby sqlite3 postgresql tcpdump tmux php-cli
    inside "apt-get clean; rm -rf /var/lib/apt/lists/* /usr/share/doc/[a-g]*"
    inside "sqlite3 /var/lib/guest.db 'create table t(id integer primary key, a text, b blob);
        with recursive n(i) as (select 1 union all select i+1 from n where i<400000)
        insert into t select i, \"row \" || i || \" of \" || (i*7919 % 104729), randomblob(40) from n;
        delete from t where id % 5 = 0; update t set a = \"changed \" || id where id % 7 = 0;'"
    inside "cd /srv; git init -q work; cd work; cp -r /usr/lib/python3/dist-packages /usr/share/perl/5* .; git add .;
        git -c user.name=a -c user.email=a@b commit -q -m first; rm -rf dist-packages/pip; git add -A .;
        git -c user.name=a -c user.email=a@b commit -q -m second; git gc -q"
    inside "seq 1 500000 | sed 's/.*/Nov 22 00:00:00 guest daemon[&]: request & served in & ms/' >/var/log/daemon.log;
        gzip -k /var/log/daemon.log; apt-get -q update; apt-get -y -q remove man-db; rm -rf /usr/lib/python3/dist-packages/pip"
    leave
    mv a.raw.new a.raw
fi

if [ ! -e b.raw ]; then
    strap tree
    updates
    install git python3 default-jre-headless
    install apache2 php-cli python3-numpy nodejs vim build-essential
    install linux-image-amd64 systemd-sysv openssh-server perl rsync tmux
    inside "apt-get clean; rm -rf /var/lib/apt/lists/*"
    leave
    disk b.raw tree
    rm -rf tree
fi

if [ ! -e grown.raw ]; then
    copy a.raw grown.raw
    truncate -s 6G grown.raw.new
    echo ", +" | sfdisk -q -N1 --no-reread grown.raw.new
    attach grown.raw.new
    e2fsck -fp "$loop" >>corpus.log 2>&1
    resize2fs "$loop" >>corpus.log 2>&1
    leave
    enter grown.raw.new
    cp -r "$top/usr/lib/python3" "$top/srv/python3"
    leave
    mv grown.raw.new grown.raw
fi

# LVM: the same filesystem as a logical volume. The volume is written into LVM's own metadata, which takes no device
# mapper, and its bytes go where these say.
volume='logical_volumes { root { id = "5eedba-0000-0000-0000-0000-0000-000002"
    status = ["READ", "WRITE", "VISIBLE"] flags = [] segment_count = 1
    segment1 { start_extent = 0 extent_count = 1024 type = "striped" stripe_count = 1 stripes = ["pv0", 0] } } }'
lvm() {
    truncate -s 5G "$2.new"
    printf 'label-id: 0x5eedba5f\n2048,,8e\n' | sfdisk -q --label dos "$2.new"
    loop=$(losetup -f --show -o $start "$2.new")
    config="devices { use_devicesfile=0 filter=[\"a|^$loop\$|\",\"r|.*|\"] } activation { udev_sync=0 udev_rules=0 }"
    pvcreate -q -f -u 5eedba-0000-0000-0000-0000-0000-000001 --norestorefile --config "$config" "$loop"
    vgcreate -q -An --config "$config" bench "$loop"
    vgcfgbackup -q -f volumes --config "$config" bench
    awk -v volume="$volume" '/^}/ && !done { print volume; done = 1 } { print }' volumes >volumes.new
    vgcfgrestore -q -f volumes.new --config "$config" bench
    losetup -d "$loop"
    loop=
    dd if="$1" of="$2.new" bs=1M skip=1 seek=2 conv=notrunc,sparse status=none
    mv "$2.new" "$2"
} >>corpus.log 2>&1
[ -e lvm-base.raw ] || lvm base.raw lvm-base.raw
[ -e lvm.raw ] || lvm a.raw lvm.raw

for name in base a; do
    [ -e $name.qcow2 ] || qemu-img convert -q -O qcow2 $name.raw $name.qcow2
    [ -e $name.vhd ] || qemu-img convert -q -O vpc -o force_size=on $name.raw $name.vhd
done
