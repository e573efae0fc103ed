use std::time::Duration;

use pool_service_client::v1::tail_logs_request::Begin;
use pool_service_client::{Error, LogPart, Logs, Reason, v1};
use tokio::time::sleep;
use tonic::Code;

use crate::scripted::{connected, refusal, soon};

fn line(text: &str) -> v1::TailLogsResponse {
    v1::TailLogsResponse {
        generation: 1,
        lines: vec![text.to_owned()],
        cursor: format!("after {text}"),
        ..Default::default()
    }
}

/// Everything until the end, or until it fails.
async fn all(mut logs: Logs) -> (Vec<LogPart>, Option<Error>) {
    let mut parts = Vec::new();
    while let Some(part) = logs.next().await {
        match part {
            Ok(part) => parts.push(part),
            Err(error) => return (parts, Some(error)),
        }
    }
    (parts, None)
}

fn text(parts: &[LogPart]) -> Vec<&str> {
    let lines = parts.iter().filter_map(|part| match part {
        LogPart::Lines { lines, .. } => Some(lines.iter().map(String::as_str)),
        _ => None,
    });
    lines.flatten().collect()
}

#[tokio::test(start_paused = true)]
async fn a_log_that_breaks_goes_on_after_its_last_cursor() {
    let (pool, mut service) = connected();
    let reading = tokio::spawn(all(pool.logs("m").previous().lines(7).stream()));
    let call = service.tail_logs().await;
    assert_eq!(call.request.begin, Some(Begin::Previous(true)));
    assert_eq!(call.request.lines, Some(7));
    call.answer(line("1"));
    call.refuse(refusal(Code::Unavailable, "SHUTTING_DOWN", vec![]));
    let call = service.tail_logs().await;
    assert_eq!(call.request.begin, Some(Begin::Cursor("after 1".to_owned())));
    assert_eq!(call.request.lines, None);
    call.answer(line("2"));
    drop(call);
    let (parts, error) = soon(reading).await.expect("no panic");
    assert!(error.is_none());
    assert_eq!(text(&parts), ["1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_process_comes_after_its_lines() {
    let (pool, mut service) = connected();
    let reading = tokio::spawn(all(pool.logs("m").oldest().stream()));
    let call = service.tail_logs().await;
    let exit = v1::Exit { message: "it crashed".to_owned(), ..Default::default() };
    call.answer(v1::TailLogsResponse { ended: true, exit: Some(exit), ..line("1") });
    call.answer(v1::TailLogsResponse::default());
    drop(call);
    let (parts, _) = soon(reading).await.expect("no panic");
    let [LogPart::Lines { cursor, .. }, LogPart::Ended { generation: 1, exit: Some(exit), .. }] =
        parts.as_slice()
    else {
        panic!("got {parts:?}");
    };
    assert_eq!((cursor.as_str(), exit.message.as_str()), ("after 1", "it crashed"));
}

#[tokio::test(start_paused = true)]
async fn one_that_follows_outlives_every_break_of_an_open_stream() {
    let (pool, mut service) = connected();
    let reading = tokio::spawn(all(pool.logs("m").follow().stream()));
    for text in ["1", "2", "3"] {
        let call = service.tail_logs().await;
        assert!(call.request.follow);
        call.answer(line(text));
        sleep(Duration::from_secs(3600)).await;
        // A stream that follows has no end of its own.
        drop(call);
    }
    let call = service.tail_logs().await;
    call.refuse(refusal(Code::NotFound, "LOG_NOT_FOUND", vec![]));
    let (parts, error) = soon(reading).await.expect("no panic");
    assert_eq!(text(&parts), ["1", "2", "3"]);
    assert_eq!(error.expect("it fails").reason(), Reason::LogNotFound);
}
