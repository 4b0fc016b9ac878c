//! libibverbs: its functions, looked up when they are first needed, or linked.
//!
//! ```text
//!   as usual             dlopen("libibverbs.so.1") ─► dlsym of each ─┐
//!   feature ibverbs-sys  bindings of that crate ─► linked ───────────┴─► Functions
//! ```
//!
//! As usual nothing is needed at build time, and a machine without the library says so. With the feature the
//! compiler compares the structs of `raw` with those of rdma-core's headers. What is called is the same.
//! Refuses to call anything itself.

use super::super::answer::missing;
use super::super::raw::{self, PairAttributes};
use std::ffi::{c_char, c_int, c_void};
use std::io;
use std::sync::OnceLock;

macro_rules! functions {
    ($($name:ident = $symbol:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        /// Everything that is looked up in the library.
        pub(super) struct Functions {
            $(pub(super) $name: unsafe extern "C" fn($($argument),*) $(-> $result)?,)*
        }

        impl Functions {
            /// Looks all of them up.
            ///
            /// # Safety
            /// The library is libibverbs.so.1, and is never closed.
            #[cfg(not(feature = "ibverbs-sys"))]
            unsafe fn of(library: &libloading::Library) -> Result<Functions, libloading::Error> {
                Ok(Functions {
                    $(
                        // SAFETY: the caller says which library it is, and this is its function's type.
                        $name: unsafe { *library.get(stringify!($symbol).as_bytes())? },
                    )*
                })
            }

            /// Those that are linked.
            #[cfg(feature = "ibverbs-sys")]
            fn linked() -> Functions {
                Functions {
                    $(
                        // SAFETY: the function's type but for the names of the structs behind its pointers,
                        // which have the same layout: `layouts` compares them.
                        $name: unsafe {
                            std::mem::transmute::<*const (), unsafe extern "C" fn($($argument),*) $(-> $result)?>(
                                ibverbs_sys::$symbol as *const (),
                            )
                        },
                    )*
                }
            }
        }
    };
}

functions! {
    get_device_list = ibv_get_device_list(*mut c_int) -> *mut *mut raw::Device;
    free_device_list = ibv_free_device_list(*mut *mut raw::Device);
    get_device_name = ibv_get_device_name(*mut raw::Device) -> *const c_char;
    open_device = ibv_open_device(*mut raw::Device) -> *mut raw::Context;
    close_device = ibv_close_device(*mut raw::Context) -> c_int;
    query_device = ibv_query_device(*mut raw::Context, *mut raw::DeviceAttributes) -> c_int;
    query_port = ibv_query_port(*mut raw::Context, u8, *mut raw::PortAttributes) -> c_int;
    alloc_pd = ibv_alloc_pd(*mut raw::Context) -> *mut raw::Domain;
    dealloc_pd = ibv_dealloc_pd(*mut raw::Domain) -> c_int;
    reg_mr = ibv_reg_mr(*mut raw::Domain, *mut c_void, usize, c_int) -> *mut raw::Region;
    dereg_mr = ibv_dereg_mr(*mut raw::Region) -> c_int;
    create_comp_channel = ibv_create_comp_channel(*mut raw::Context) -> *mut raw::Channel;
    destroy_comp_channel = ibv_destroy_comp_channel(*mut raw::Channel) -> c_int;
    create_cq =
        ibv_create_cq(*mut raw::Context, c_int, *mut c_void, *mut raw::Channel, c_int) -> *mut raw::CompletionQueue;
    destroy_cq = ibv_destroy_cq(*mut raw::CompletionQueue) -> c_int;
    get_cq_event = ibv_get_cq_event(*mut raw::Channel, *mut *mut raw::CompletionQueue, *mut *mut c_void) -> c_int;
    ack_cq_events = ibv_ack_cq_events(*mut raw::CompletionQueue, u32);
    create_qp = ibv_create_qp(*mut raw::Domain, *mut raw::InitAttributes) -> *mut raw::QueuePair;
    modify_qp = ibv_modify_qp(*mut raw::QueuePair, *mut PairAttributes, c_int) -> c_int;
    destroy_qp = ibv_destroy_qp(*mut raw::QueuePair) -> c_int;
    wc_status_str = ibv_wc_status_str(u32) -> *const c_char;
}

/// What is never closed.
static LIBRARY: OnceLock<Result<Functions, String>> = OnceLock::new();

/// The library, opened at the first call.
pub(super) fn library() -> io::Result<&'static Functions> {
    LIBRARY.get_or_init(find).as_ref().map_err(|why| missing(why))
}

#[cfg(not(feature = "ibverbs-sys"))]
fn find() -> Result<Functions, String> {
    // SAFETY: libibverbs has no initialisers but its own, which expect to be run by dlopen.
    let library = unsafe { libloading::Library::new("libibverbs.so.1") };
    let library = Box::leak(Box::new(library.map_err(|error| error.to_string())?));
    // SAFETY: it is that library, and it is never closed.
    unsafe { Functions::of(library) }.map_err(|error| error.to_string())
}

#[cfg(feature = "ibverbs-sys")]
/// It may fail where the library is looked for at run time.
fn find() -> Result<Functions, String> {
    Ok(Functions::linked())
}

/// The structs of `raw` are those of rdma-core's headers.
#[cfg(feature = "ibverbs-sys")]
mod layouts {
    use super::super::super::raw;
    use ibverbs_sys as sys;
    use std::mem::offset_of;

    macro_rules! same {
        ($ours:ty = $theirs:ty $(, $field:ident = $name:ident)*) => {
            $(assert!(offset_of!($ours, $field) == offset_of!($theirs, $name), stringify!($name));)*
        };
    }

    const _: () = {
        let ops = offset_of!(sys::ibv_context, ops);
        assert!(offset_of!(raw::Context, poll_cq) == ops + offset_of!(sys::ibv_context_ops, poll_cq));
        assert!(
            offset_of!(raw::Context, req_notify_cq) == ops + offset_of!(sys::ibv_context_ops, req_notify_cq)
        );
        assert!(offset_of!(raw::Context, post_send) == ops + offset_of!(sys::ibv_context_ops, post_send));
        same!(raw::Region = sys::ibv_mr, lkey = lkey, rkey = rkey);
        same!(raw::Channel = sys::ibv_comp_channel, fd = fd);
        same!(raw::QueuePair = sys::ibv_qp, number = qp_num);
        same!(raw::PortAttributes = sys::ibv_port_attr, state = state, active_mtu = active_mtu, lid = lid);
        same!(raw::PortAttributes = sys::ibv_port_attr, link_layer = link_layer);
        same!(raw::DeviceAttributes = sys::ibv_device_attr, max_qp_wr = max_qp_wr, max_cqe = max_cqe);
        same!(raw::DeviceAttributes = sys::ibv_device_attr, max_qp_rd_atom = max_qp_rd_atom);
        same!(raw::DeviceAttributes = sys::ibv_device_attr, max_qp_init_rd_atom = max_qp_init_rd_atom);
        same!(raw::DeviceAttributes = sys::ibv_device_attr, phys_port_cnt = phys_port_cnt);
        same!(raw::InitAttributes = sys::ibv_qp_init_attr, send_cq = send_cq, recv_cq = recv_cq, srq = srq);
        same!(
            raw::InitAttributes = sys::ibv_qp_init_attr,
            capacities = cap,
            kind = qp_type,
            sq_sig_all = sq_sig_all
        );
        same!(
            raw::Address = sys::ibv_ah_attr,
            dgid = grh,
            dlid = dlid,
            is_global = is_global,
            port_num = port_num
        );
        same!(raw::PairAttributes = sys::ibv_qp_attr, path_mtu = path_mtu, rq_psn = rq_psn, sq_psn = sq_psn);
        same!(raw::PairAttributes = sys::ibv_qp_attr, dest_qp_num = dest_qp_num, address = ah_attr);
        same!(raw::PairAttributes = sys::ibv_qp_attr, access_flags = qp_access_flags, port_num = port_num);
        same!(raw::PairAttributes = sys::ibv_qp_attr, max_rd_atomic = max_rd_atomic, timeout = timeout);
        same!(raw::PairAttributes = sys::ibv_qp_attr, max_dest_rd_atomic = max_dest_rd_atomic);
        same!(raw::PairAttributes = sys::ibv_qp_attr, min_rnr_timer = min_rnr_timer, retry_cnt = retry_cnt);
        same!(raw::PairAttributes = sys::ibv_qp_attr, rnr_retry = rnr_retry, rate_limit = rate_limit);
        same!(raw::Piece = sys::ibv_sge, address = addr, length = length, lkey = lkey);
        same!(raw::SendRequest = sys::ibv_send_wr, id = wr_id, next = next, pieces = sg_list);
        same!(
            raw::SendRequest = sys::ibv_send_wr,
            piece_count = num_sge,
            opcode = opcode,
            flags = send_flags
        );
        same!(raw::SendRequest = sys::ibv_send_wr, remote_address = wr);
        assert!(size_of::<raw::SendRequest>() == size_of::<sys::ibv_send_wr>());
        assert!(size_of::<raw::WorkCompletion>() == size_of::<sys::ibv_wc>());
        assert!(size_of::<raw::PairAttributes>() == size_of::<sys::ibv_qp_attr>());
        assert!(size_of::<raw::InitAttributes>() == size_of::<sys::ibv_qp_init_attr>());
        assert!(size_of::<raw::DeviceAttributes>() == size_of::<sys::ibv_device_attr>());
        assert!(raw::QPT_RC == sys::ibv_qp_type::IBV_QPT_RC);
        assert!(raw::PORT_ACTIVE == sys::ibv_port_state::IBV_PORT_ACTIVE);
        assert!(raw::WR_READ == sys::ibv_wr_opcode::IBV_WR_RDMA_READ);
        assert!(raw::WR_WRITE == sys::ibv_wr_opcode::IBV_WR_RDMA_WRITE);
        assert!(raw::STATE_INIT == sys::ibv_qp_state::IBV_QPS_INIT);
        assert!(raw::STATE_READY_TO_RECEIVE == sys::ibv_qp_state::IBV_QPS_RTR);
        assert!(raw::STATE_READY_TO_SEND == sys::ibv_qp_state::IBV_QPS_RTS);
    };
}
