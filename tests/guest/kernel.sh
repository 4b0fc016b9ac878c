#!/usr/bin/env bash
# Fetches Debian's kernel package and unpacks it, without installing it: ./kernel.sh [DIR], default target/guest.
#
# Prints the folder that then has `vmlinuz` and `modules/` (what is /lib/modules/VERSION elsewhere). Does nothing when that
# version is there already. The generic kernel is taken, because the one for clouds has no rdma_rxe.
set -eu -o pipefail

dir=${1:-$(dirname "$0")/../../target/guest}
say() { printf 'kernel: %s\n' "$*" >&2; exit 1; }

command -v apt-cache >/dev/null || say "needs apt: this takes Debian's own kernel"
package=$(apt-cache depends linux-image-amd64 2>/dev/null | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
[ -n "$package" ] || say "apt knows no linux-image-amd64 (apt-get update fetches the lists)"

mkdir -p "$dir"
dir=$(cd "$dir" && pwd)/$package
if [ ! -e "$dir/vmlinuz" ]; then
    # Two may come at once: each unpacks on its own, and the first to finish wins.
    fresh=$(mktemp -d "$dir.XXXXXX")
    trap 'rm -rf "$fresh"' EXIT
    # apt's own user may not enter a folder of mode 700.
    chmod 755 "$fresh"
    (cd "$fresh" && apt-get -qq download "$package") >&2 || say "cannot download $package"
    dpkg -x "$fresh"/*.deb "$fresh/root"
    rm "$fresh"/*.deb
    mv "$fresh"/root/boot/vmlinuz-* "$fresh/vmlinuz"
    modules=("$fresh"/root/lib/modules/* "$fresh"/root/usr/lib/modules/*)
    for folder in "${modules[@]}"; do
        [ -d "$folder/kernel" ] && mv "$folder" "$fresh/modules"
    done
    rm -rf "$fresh/root"
    [ -d "$fresh/modules" ] || say "$package has no modules"
    mv -T "$fresh" "$dir" 2>/dev/null || [ -e "$dir/vmlinuz" ] || say "cannot keep it in $dir"
fi
printf '%s\n' "$dir"
