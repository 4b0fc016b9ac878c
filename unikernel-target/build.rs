//! Links the image: no C library, no start files, our own memory layout.

fn main() {
    println!("cargo:rerun-if-changed=link.ld");
    let folder = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it for build scripts");
    for argument in ["-nostartfiles", "-nostdlib", "-static", "-no-pie"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    for argument in
        [&format!("-T,{folder}/link.ld"), "-z,max-page-size=4096", "--build-id=none", "--gc-sections"]
    {
        println!("cargo:rustc-link-arg-bins=-Wl,{argument}");
    }
}
