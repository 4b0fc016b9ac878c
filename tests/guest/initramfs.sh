#!/usr/bin/env bash
# Makes an initramfs: ./initramfs.sh KERNEL OUT INIT [FILE[=PLACE] | module:NAME]...
#
# KERNEL is the folder that kernel.sh prints, OUT the archive, INIT the script that the guest runs first (/init, by busybox).
# A FILE goes to its own path in the guest, or to PLACE; a program brings its shared libraries. module:NAME is NAME.ko of
# KERNEL, and lies in /modules. Modules' dependencies are to be named too; /modules/order lists them as they were named,
# so `for name in $(cat /modules/order); do insmod /modules/$name.ko; done` loads them.
set -eu -o pipefail

say() { printf 'initramfs: %s\n' "$*" >&2; exit 1; }
[ $# -ge 3 ] || say "usage: $0 KERNEL OUT INIT [FILE[=PLACE] | module:NAME]..."
kernel=$1 out=$2 init=$3
shift 3
busybox=$(command -v busybox) || say "no busybox (make setup installs it)"

root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
mkdir -p "$root"/{bin,dev,etc,modules,proc,run,sys,tmp}

# The file, or what a link leads to, under a path of its own.
place() {
    mkdir -p "$root$(dirname "$2")"
    cp -L "$1" "$root$2"
}

add() {
    local file=$1 to=$2 library
    [ -e "$root$to" ] && return
    place "$file" "$to"
    # Debugging symbols would fill the guest's memory. What is no program is left as it is.
    strip --strip-debug "$root$to" 2>/dev/null || true
    # What is no dynamic program has no libraries.
    for library in $(ldd "$file" 2>/dev/null | grep -o '/[^ ]*' || true); do
        [ -e "$root$library" ] || place "$library" "$library"
    done
}

"$busybox" --list >/dev/null
place "$busybox" /bin/busybox
for applet in $("$busybox" --list); do
    [ "$applet" = busybox ] || ln -s busybox "$root/bin/$applet"
done
place "$init" /init
chmod 755 "$root/init"

: >"$root/modules/order"
for item in "$@"; do
    case $item in
    module:*)
        name=${item#module:}
        found=$(find "$kernel/modules/" -name "$name.ko*" | head -n 1)
        [ -n "$found" ] || say "the kernel has no module $name"
        case $found in
        *.ko) cp "$found" "$root/modules/$name.ko" ;;
        *.xz) xz -dc "$found" >"$root/modules/$name.ko" ;;
        *.zst) zstd -qdc "$found" >"$root/modules/$name.ko" ;;
        esac
        printf '%s\n' "$name" >>"$root/modules/order"
        ;;
    *=*) add "${item%%=*}" "${item#*=}" ;;
    *) add "$item" "$item" ;;
    esac
done

out=$(cd "$(dirname "$out")" && pwd)/$(basename "$out")
(cd "$root" && find . | "$busybox" cpio -o -H newc 2>/dev/null) >"$out"
