//! Holds every far-memory link to the contract of `tests::link_contract`, and the modelled wire to its model.

use farmem::{Frame, FrameNo, Instant, Link, PAGE_SIZE, PageNo, Transfer, TransferKind};
use farmem_link::{FarUri, LinkSet, SharedLink};
use tests::authority::Authority;
use tests::link_contract::{CLAUSES, Rig};
use tests::nodes::{Listen, Node};

fn open(uris: &[String]) -> LinkSet {
    open_copies(uris, 1)
}

fn open_copies(uris: &[String], copies: usize) -> LinkSet {
    let parse = |uri: &String| uri.parse::<FarUri>().expect("it is a URI");
    LinkSet::open(&uris.iter().map(parse).collect::<Vec<_>>(), copies).expect("far memory can be had")
}

/// Runs every clause on a fresh link.
fn holds_to_the_contract(fresh: impl Fn(&str) -> LinkSet) {
    for (name, clause) in CLAUSES {
        eprintln!("{name}");
        clause(&mut Rig::new(&mut fresh(name)));
    }
}

#[test]
fn memory_holds_to_the_contract() {
    holds_to_the_contract(|_| open(&["mem:64mb".into()]));
}

#[test]
fn memory_behind_a_modelled_wire_holds_to_the_contract() {
    holds_to_the_contract(|_| open(&["mem:64mb?latency=2.6us&bandwidth=100gbit".into()]));
    holds_to_the_contract(|_| open(&["mem:64mb?latency=50us".into()]));
    holds_to_the_contract(|_| open(&["mem:64mb?bandwidth=1gbit".into()]));
}

#[test]
fn a_byte_addressable_file_holds_to_the_contract() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("tmpfs is there");
    holds_to_the_contract(|name| open(&[format!("dax:{}/{name}?size=64mb", dir.path().display())]));
}

#[test]
fn a_file_on_disk_holds_to_the_contract() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    holds_to_the_contract(|name| open(&[format!("file:{}/{name}?size=64mb", dir.path().display())]));
}

#[test]
fn a_file_on_tmpfs_holds_to_the_contract() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("tmpfs is there");
    holds_to_the_contract(|name| open(&[format!("file:{}/{name}?size=64mb", dir.path().display())]));
}

#[test]
fn pages_striped_over_unequal_links_hold_to_the_contract() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    holds_to_the_contract(|name| {
        let file = format!("file:{}/{name}?size=48mb", dir.path().display());
        open(&["mem:80mb?latency=2.6us&bandwidth=100gbit".into(), file, "mem:32mb".into()])
    });
}

#[test]
fn our_memory_node_holds_to_the_contract_over_a_unix_socket_and_tcp() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    for (name, clause) in CLAUSES {
        for listen in [Listen::Unix(dir.path().join(name)), Listen::free_port()] {
            let node = Node::memnode("64mb", listen);
            clause(&mut Rig::new(&mut open(&[node.patient_uri()])));
        }
    }
}

#[test]
fn our_memory_node_holds_to_the_contract_over_tls_with_client_certificates() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    let authority = Authority::new();
    let node = authority.folder(dir.path().join("node"), "server", Some(&authority));
    let client = authority.folder(dir.path().join("client"), "client", Some(&authority));
    let file = |name: &str| node.join(name).display().to_string();
    let (cert, key, ca) = (file("server-cert.pem"), file("server-key.pem"), file("ca-cert.pem"));
    let tls = ["--tls-cert", &cert, "--tls-key", &key, "--tls-ca", &ca];
    for (_, clause) in CLAUSES {
        let listen = Listen::free_port();
        let Listen::Tcp(port) = listen else { unreachable!("it is a port") };
        let _node = Node::memnode_with("64mb", listen, &tls);
        let uri = format!("nbds://localhost:{port}/?tls-certificates={}&timeout=30s", client.display());
        clause(&mut Rig::new(&mut open(&[uri])));
    }
}

#[test]
fn nbdkit_holds_to_the_contract_over_a_unix_socket_and_tcp_in_any_order() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    // Some replies late: then they come out of order.
    let late = ["--filter=delay", "memory", "64M", "rdelay=1ms", "wdelay=2ms"];
    for (name, clause) in CLAUSES {
        for (plugin, listen) in [
            (&["memory", "64M"][..], Listen::Unix(dir.path().join(name))),
            (&["memory", "64M"][..], Listen::free_port()),
            (&["--filter=noparallel", "memory", "64M"][..], Listen::free_port()),
            (&late[..], Listen::free_port()),
        ] {
            let Some(node) = Node::nbdkit(plugin, listen) else { return };
            clause(&mut Rig::new(&mut open(&[node.patient_uri()])));
        }
    }
}

#[test]
fn qemu_nbd_holds_to_the_contract_with_one_connection() {
    let dir = tempfile::tempdir_in("/dev/shm").expect("tmpfs is there");
    for (name, clause) in CLAUSES {
        let file = dir.path().join(format!("{name}.raw"));
        std::fs::File::create(&file).and_then(|file| file.set_len(64 << 20)).expect("it can be made");
        let Some(node) = Node::qemu_nbd(&file, Listen::Unix(dir.path().join(name))) else { return };
        clause(&mut Rig::new(&mut open(&[node.patient_uri()])));
    }
}

#[test]
fn two_copies_hold_to_the_contract() {
    holds_to_the_contract(|_| open_copies(&["mem:64mb".into(), "mem:64mb?latency=2.6us".into()], 2));
    holds_to_the_contract(|_| open_copies(&["mem:32mb".into(), "mem:48mb".into(), "mem:64mb".into()], 2));
}

#[test]
fn two_copies_on_memory_nodes_hold_to_the_contract() {
    let dir = tempfile::tempdir().expect("a directory can be made");
    for (name, clause) in CLAUSES {
        let node = |half| Node::memnode("64mb", Listen::Unix(dir.path().join(format!("{name}{half}"))));
        let nodes = [node(0), node(1)];
        clause(&mut Rig::new(&mut open_copies(&nodes.each_ref().map(Node::patient_uri), 2)));
    }
}

#[test]
fn a_shared_link_holds_to_the_contract() {
    for (_, clause) in CLAUSES {
        clause(&mut Rig::new(&mut SharedLink::new(open(&["mem:64mb".into()]))));
    }
}

#[test]
fn needed_pages_overtake_queued_guesses_and_the_wire_keeps_its_latency_and_bandwidth() {
    const LATENCY_NS: u64 = 2_600;
    const PAGE_NS: u64 = 328;
    let mut link = open(&["mem:64mb?latency=2.6us&bandwidth=100gbit".into()]);
    let mut frames: Vec<Frame> = (0..64).map(|_| Frame([0; PAGE_SIZE])).collect();
    let of = |kind, page: u32| Transfer { kind, page: PageNo(page), count: 1, frame: FrameNo(page) };
    let guesses: Vec<_> = (0..32).map(|page| of(TransferKind::FetchGuess, page)).collect();
    let needed: Vec<_> = (32..48).map(|page| of(TransferKind::FetchNeeded, page)).collect();
    link.submit(&guesses, &mut frames, Instant(0));
    link.submit(&needed, &mut frames, Instant(1));
    let (mut order, mut landed) = (Vec::new(), Vec::new());
    while let Some(due) = link.next_due() {
        link.poll_landed(&mut frames, Instant(due.0 - 1), &mut landed);
        assert!(landed.is_empty(), "a page landed before it was due");
        link.poll_landed(&mut frames, due, &mut landed);
        order.extend(landed.drain(..).map(|end| (end.transfer.page.0, due.0)));
    }
    let wanted = std::iter::once(0).chain(32..48).chain(1..32);
    assert!(order.iter().map(|&(page, _)| page).eq(wanted), "{order:?}");
    let times = (1..=48).map(|n| n * PAGE_NS + LATENCY_NS);
    assert!(order.iter().map(|&(_, due)| due).eq(times), "{order:?}");
}
