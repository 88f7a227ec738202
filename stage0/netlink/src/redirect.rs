//! Sending all that comes in at one link out of another: how a virtual machine's tap and the link
//! of its pod become one wire.
//!
//! `cls_u32` with a key that matches everything, for `cls_matchall` is not in every kernel we meet.

use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{
    TcAction, TcActionAttribute, TcActionMirrorOption, TcActionOption, TcActionType, TcAttribute,
    TcFilterU32Option, TcHandle, TcMessage, TcMirror, TcMirrorActionType, TcOption, TcU32Key,
    TcU32Selector, TcU32SelectorFlags,
};
use nix::errno::Errno;

use crate::Request;

/// The priority of our one filter (`TC_H_MAKE(prio << 16, protocol)`), and the protocol "every one".
const PRIORITY: u32 = 1;
const ETH_P_ALL: u16 = 0x0003;

fn message(index: u32) -> TcMessage {
    // Indices of links are positive in every kernel; the header happens to have a sign.
    TcMessage::with_index(i32::try_from(index).unwrap_or(0))
}

/// Gives a link the place where what comes in is looked at.
#[must_use]
pub fn add_ingress(index: u32) -> Request {
    let mut message = message(index);
    message.header.handle = TcHandle { major: 0xffff, minor: 0 };
    message.header.parent = TcHandle::INGRESS;
    message.attributes.push(TcAttribute::Kind("ingress".to_owned()));
    let deed = format!("watch what comes in at the link number {index}");
    Request::new(RouteNetlinkMessage::NewQueueDiscipline(message), "RTM_NEWQDISC(ingress)", deed)
        .creating()
        .hinting(&[(Errno::ENOENT, "the kernel lacks `sch_ingress`")])
}

/// Has everything that comes in at one link, which has an ingress, leave by another.
#[must_use]
pub fn redirect_to(from: u32, to: u32) -> Request {
    let mut parameters = TcMirror::default();
    parameters.generic.action = TcActionType::Stolen;
    parameters.eaction = TcMirrorActionType::EgressRedir;
    parameters.ifindex = to;
    let mut action = TcAction::default();
    action.tab = 1;
    action.attributes = vec![
        TcActionAttribute::Kind("mirred".to_owned()),
        TcActionAttribute::Options(vec![TcActionOption::Mirror(TcActionMirrorOption::Parms(
            parameters,
        ))]),
    ];
    let mut selector = TcU32Selector::default();
    selector.flags = TcU32SelectorFlags::Terminal;
    selector.nkeys = 1;
    selector.keys = vec![TcU32Key::default()];

    let mut message = message(from);
    message.header.parent = TcHandle { major: 0xffff, minor: 0 };
    message.header.info = PRIORITY << 16 | u32::from(ETH_P_ALL.to_be());
    message.attributes = vec![
        TcAttribute::Kind("u32".to_owned()),
        TcAttribute::Options(vec![
            TcOption::U32(TcFilterU32Option::Selector(selector)),
            TcOption::U32(TcFilterU32Option::Action(vec![action])),
        ]),
    ];
    let deed = format!("send what comes in at the link number {from} to number {to}");
    let call = "RTM_NEWTFILTER(u32, mirred)";
    Request::new(RouteNetlinkMessage::NewTrafficFilter(message), call, deed)
        .creating()
        .hinting(&[(Errno::ENOENT, "the kernel lacks `cls_u32` or `act_mirred`")])
}
