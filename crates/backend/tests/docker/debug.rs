//! Shells for people, beside containers that stand where a step began.

use std::time::Duration;

use pipekeeper_backend::{
    DebugOrder, LaunchScript, TermName, TerminalSize,
    suite::{Session, attempt},
};
use pipekeeper_model::Millis;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::timeout,
};

use crate::world::EngineWorld;

async fn a_shell_stands_where_the_step_began(world: EngineWorld) {
    let session = Session::open(&world);
    let mut launch = world.launch(attempt(0), "mkdir web\necho made > web/file");
    let mut second = launch.steps[0].clone();
    second.script = LaunchScript::Command(vec!["false".to_owned()]);
    second.working_dir = Some("web".to_owned());
    second.env = [("OWN".to_owned(), "a value".to_owned())].into();
    launch.steps.push(second);
    let (told, _heard) = mpsc::channel(1024);
    let order = DebugOrder {
        launch,
        limit: Millis::minutes(5),
        size: TerminalSize {
            columns: 101,
            rows: 33,
        },
        term: TermName::new("xterm"),
        told,
    };
    let mut terminal = session.backend.debug(order).await.unwrap();
    assert_eq!(session.backend.list().await.unwrap(), []);
    let lines = "until [ \"$(stty size)\" = '33 101' ]; do sleep 0.1; done\n\
                 echo \"<$OWN|$HOME|$PWD|$(cat file)>\"; exit\n";
    terminal.stream.write_all(lines.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    let read = terminal.stream.read_to_end(&mut said);
    timeout(Duration::from_secs(60), read).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&said);
    assert!(
        said.contains("<a value|/pipe/home|/workspace/web|made>"),
        "{said}"
    );
    terminal.end().await;
    assert_eq!(session.backend.list().await.unwrap(), []);
}

crate::on_each_engine!(a_shell_stands_where_the_step_began);
