//! The threads: accept, look at a request, fail as told or answer.

use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use crate::answer::{Answer, answer};
use crate::fault::Fault;
use crate::http::{self, Waiting};
use crate::state::State;

/// Small enough that what is noted as sent is near the truth when a client is killed.
const CHUNK: usize = 16 << 10;

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    Next,
    Close,
}

/// Accepts until the registry stops; returns when every connection has ended.
pub(crate) fn accept(listener: &TcpListener, state: &Arc<State>) {
    thread::scope(|scope| {
        for stream in listener.incoming() {
            if state.is_stopped() {
                return;
            }
            if let Ok(stream) = stream {
                // A client that goes away is part of the test.
                scope.spawn(move || drop(connection(stream, state)));
            }
        }
    });
}

fn connection(mut stream: TcpStream, state: &State) -> io::Result<()> {
    stream.set_nodelay(true)?;
    while let Some(mut waiting) = http::peek(&stream, state)? {
        let fault = state.fault(&waiting.request.path);
        if fault == Fault::ResetBefore {
            state.note(waiting.request);
            return Ok(());
        }
        let resets = matches!(fault, Fault::ResetAfter(_));
        if !resets {
            http::take(&mut stream, &mut waiting)?;
        }
        let number = state.note(waiting.request.clone());
        if serve(&mut stream, state, &waiting, number, fault)? == Then::Close {
            return Ok(());
        }
    }
    Ok(())
}

fn serve(
    stream: &mut TcpStream,
    state: &State,
    waiting: &Waiting,
    number: usize,
    fault: Fault,
) -> io::Result<Then> {
    let mut request = waiting.request.clone();
    if fault == Fault::IgnoreRange {
        request.range = None;
    }
    let good = answer(state, &request);
    let reply = Reply::of(good, fault);
    state.note_status(number, reply.answer.status);
    http::write_head(stream, reply.answer.status, &reply.answer.headers)?;
    if request.method == "HEAD" {
        return Ok(Then::Next);
    }
    let body = &reply.answer.body[reply.answer.from..];
    let cut = reply.cut.map_or(body.len(), |cut| cut.min(body.len()));
    if reply.chunked {
        write!(stream, "{:x}\r\n", cut.max(1))?;
    }
    for piece in body[..cut].chunks(CHUNK) {
        // Noted first, so that whoever has read it all finds it all noted.
        state.note_sent(number, piece.len());
        stream.write_all(piece)?;
    }
    if reply.chunked {
        stream.write_all(b"\r\n0\r\n\r\n")?;
    }
    if let Some(time) = reply.stall {
        state.idle(time);
    }
    Ok(if reply.cut.is_some() { Then::Close } else { Then::Next })
}

/// An answer and what happens to it underway.
#[derive(Debug)]
struct Reply {
    answer: Answer,
    cut: Option<usize>,
    stall: Option<Duration>,
    chunked: bool,
}

impl Reply {
    fn of(mut answer: Answer, fault: Fault) -> Self {
        let (mut cut, mut stall, mut chunked, mut claimed) = (None, None, false, None);
        match fault {
            Fault::None | Fault::IgnoreRange | Fault::ResetBefore => {}
            Fault::Length(length) => claimed = Some(length),
            Fault::Status(status, headers, body) => {
                answer = Answer { headers, ..Answer::new(status, &[], body.into()) };
            }
            Fault::Redirect(to) => answer = Answer::new(307, &[("Location", &to)], Vec::new()),
            Fault::CutAfter(bytes) | Fault::ResetAfter(bytes) => cut = Some(bytes),
            Fault::StallAfter(bytes, time) => (cut, stall) = (Some(bytes), Some(time)),
            Fault::ContentRange(None) => answer.remove("Content-Range"),
            Fault::ContentRange(Some(range)) => answer.set("Content-Range", &range),
            Fault::ChunkedPlus(extra) => {
                chunked = true;
                let body = [&answer.body[answer.from..], &extra].concat();
                (answer.body, answer.from) = (Arc::new(body), 0);
            }
            Fault::Corrupt => {
                let mut body = answer.body.to_vec();
                if let Some(byte) = body.get_mut(answer.from) {
                    *byte ^= 1;
                }
                answer.body = Arc::new(body);
            }
            Fault::Header(name, value) => answer.set(&name, &value),
            Fault::Without(name) => answer.remove(&name),
        }
        if chunked {
            answer.set("Transfer-Encoding", "chunked");
        } else {
            let length = claimed.unwrap_or_else(|| answer.length());
            answer.set("Content-Length", &length.to_string());
        }
        Self { answer, cut, stall, chunked }
    }
}
