//! What libibverbs and its providers agree on: structs and constants.
//!
//! ```text
//!   ibv_context ─► ops: 32 function pointers; poll_cq 11, req_notify_cq 12, post_send 25 are called through it,
//!                       because in C they are inline functions, and no library has them
//! ```
//!
//! Only what is used; the rest is padding. The layouts have been the same since libibverbs 1.0 and cannot change before
//! libibverbs.so.2. Refuses to call anything. Source: rdma-core, infiniband/verbs.h.
// The names are those of verbs.h, or say the same.
#![allow(missing_docs)]

use std::ffi::{c_char, c_int, c_void};

/// A device in a list.
#[repr(C)]
pub struct Device {
    _opaque: [u8; 0],
}

/// An open device, as far as it is looked into.
#[repr(C)]
pub struct Context {
    device: *mut Device,
    unused: [*const c_void; 11],
    pub poll_cq: unsafe extern "C" fn(*mut CompletionQueue, c_int, *mut WorkCompletion) -> c_int,
    pub req_notify_cq: unsafe extern "C" fn(*mut CompletionQueue, c_int) -> c_int,
    unused_too: [*const c_void; 12],
    pub post_send: unsafe extern "C" fn(*mut QueuePair, *mut SendRequest, *mut *mut SendRequest) -> c_int,
}

/// A protection domain.
#[repr(C)]
pub struct Domain {
    _opaque: [u8; 0],
}

/// A completion queue.
#[repr(C)]
pub struct CompletionQueue {
    _opaque: [u8; 0],
}

/// A registered region.
#[repr(C)]
pub struct Region {
    context: *mut Context,
    domain: *mut Domain,
    address: *mut c_void,
    length: usize,
    handle: u32,
    pub lkey: u32,
    pub rkey: u32,
}

/// Where completion events arrive.
#[repr(C)]
pub struct Channel {
    context: *mut Context,
    pub fd: c_int,
}

/// A queue pair.
#[repr(C)]
pub struct QueuePair {
    context: *mut Context,
    qp_context: *mut c_void,
    domain: *mut Domain,
    send_cq: *mut CompletionQueue,
    recv_cq: *mut CompletionQueue,
    srq: *mut c_void,
    handle: u32,
    pub number: u32,
}

/// What a device can do.
#[repr(C)]
pub struct DeviceAttributes {
    fw_ver: [c_char; 64],
    node_guid: u64,
    sys_image_guid: u64,
    max_mr_size: u64,
    page_size_cap: u64,
    vendor: [u32; 3],
    max_qp: c_int,
    pub max_qp_wr: c_int,
    device_cap_flags: u32,
    max_sge: [c_int; 2],
    max_cq: c_int,
    pub max_cqe: c_int,
    max_mr: c_int,
    max_pd: c_int,
    pub max_qp_rd_atom: c_int,
    max_ee_rd_atom: c_int,
    max_res_rd_atom: c_int,
    pub max_qp_init_rd_atom: c_int,
    rest: [c_int; 16],
    max_pkeys: u16,
    local_ca_ack_delay: u8,
    pub phys_port_cnt: u8,
}

/// How a port is.
#[repr(C)]
pub struct PortAttributes {
    pub state: u32,
    max_mtu: u32,
    pub active_mtu: u32,
    gid_tbl_len: c_int,
    port_cap_flags: u32,
    max_msg_sz: u32,
    bad_pkey_cntr: u32,
    qkey_viol_cntr: u32,
    pkey_tbl_len: u16,
    pub lid: u16,
    sm_lid: u16,
    small: [u8; 8],
    pub link_layer: u8,
    flags: u8,
    port_cap_flags2: u16,
}

/// The sizes of a queue pair.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Capacities {
    pub max_send_wr: u32,
    pub max_recv_wr: u32,
    pub max_send_sge: u32,
    pub max_recv_sge: u32,
    pub max_inline_data: u32,
}

/// How a queue pair is made.
#[repr(C)]
pub struct InitAttributes {
    pub qp_context: *mut c_void,
    pub send_cq: *mut CompletionQueue,
    pub recv_cq: *mut CompletionQueue,
    pub srq: *mut c_void,
    pub capacities: Capacities,
    pub kind: u32,
    pub sq_sig_all: c_int,
}

/// A GID, aligned as the union that it is in C.
#[repr(C, align(8))]
#[derive(Clone, Copy)]
pub struct RawGid(pub [u8; 16]);

/// The way to a peer.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Address {
    pub dgid: RawGid,
    pub flow_label: u32,
    pub sgid_index: u8,
    pub hop_limit: u8,
    pub traffic_class: u8,
    pub dlid: u16,
    pub sl: u8,
    pub src_path_bits: u8,
    pub static_rate: u8,
    pub is_global: u8,
    pub port_num: u8,
}

/// What a queue pair is turned into.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct PairAttributes {
    pub state: u32,
    pub cur_state: u32,
    pub path_mtu: u32,
    pub path_mig_state: u32,
    pub qkey: u32,
    pub rq_psn: u32,
    pub sq_psn: u32,
    pub dest_qp_num: u32,
    pub access_flags: u32,
    pub capacities: Capacities,
    pub address: Address,
    pub alt_address: Address,
    pub pkey_index: u16,
    pub alt_pkey_index: u16,
    pub en_sqd_async_notify: u8,
    pub sq_draining: u8,
    pub max_rd_atomic: u8,
    pub max_dest_rd_atomic: u8,
    pub min_rnr_timer: u8,
    pub port_num: u8,
    pub timeout: u8,
    pub retry_cnt: u8,
    pub rnr_retry: u8,
    pub alt_port_num: u8,
    pub alt_timeout: u8,
    pub rate_limit: u32,
}

/// Local bytes of a work request.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Piece {
    pub address: u64,
    pub length: u32,
    pub lkey: u32,
}

/// A work request.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct SendRequest {
    pub id: u64,
    pub next: *mut SendRequest,
    pub pieces: *mut Piece,
    pub piece_count: c_int,
    pub opcode: u32,
    pub flags: u32,
    pub immediate: u32,
    pub remote_address: u64,
    pub rkey: u32,
    /// Of other operations.
    pub unused: [u64; 9],
}

/// A completion.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct WorkCompletion {
    pub id: u64,
    pub status: u32,
    pub unused: [u32; 9],
}

pub const QPT_RC: u32 = 2;
pub const PORT_ACTIVE: u32 = 4;
pub const LINK_LAYER_ETHERNET: u8 = 2;
pub const ACCESS_LOCAL_WRITE: c_int = 1;
pub const ACCESS_REMOTE_WRITE: c_int = 1 << 1;
pub const ACCESS_REMOTE_READ: c_int = 1 << 2;
pub const WR_WRITE: u32 = 0;
pub const WR_READ: u32 = 4;
pub const SEND_SIGNALED: u32 = 1 << 1;

pub const STATE_INIT: u32 = 1;
pub const STATE_READY_TO_RECEIVE: u32 = 2;
pub const STATE_READY_TO_SEND: u32 = 3;

/// state, access flags, pkey index, port
pub const MASK_INIT: c_int = 1 | 1 << 3 | 1 << 4 | 1 << 5;
/// state, address, path MTU, receive PSN, reads served at once, RNR timer, the peer's number
pub const MASK_READY_TO_RECEIVE: c_int = 1 | 1 << 7 | 1 << 8 | 1 << 12 | 1 << 17 | 1 << 15 | 1 << 20;
/// state, timeout, retries, RNR retries, reads at once, send PSN
pub const MASK_READY_TO_SEND: c_int = 1 | 1 << 9 | 1 << 10 | 1 << 11 | 1 << 13 | 1 << 16;

// Compared with a C program against infiniband/verbs.h of rdma-core 44 (x86_64).
const _: () = {
    use std::mem::offset_of;
    assert!(offset_of!(Context, poll_cq) == 8 + 11 * 8);
    assert!(offset_of!(Context, post_send) == 8 + 25 * 8);
    assert!(size_of::<DeviceAttributes>() == 232);
    assert!(size_of::<PortAttributes>() == 52);
    assert!(size_of::<InitAttributes>() == 64);
    assert!(size_of::<Address>() == 32);
    assert!(size_of::<PairAttributes>() == 144 && offset_of!(PairAttributes, address) == 56);
    assert!(size_of::<SendRequest>() == 128 && offset_of!(SendRequest, remote_address) == 40);
    assert!(size_of::<WorkCompletion>() == 48);
    assert!(offset_of!(QueuePair, number) == 52 && offset_of!(Region, lkey) == 36);
};
