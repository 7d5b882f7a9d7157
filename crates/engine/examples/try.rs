use tare_engine::{request::*, *};
fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args[1] == SUPERVISE {
        if let Err(e) = supervise(&args[2]) {
            eprintln!("{e:?}");
        }
        return;
    }
    let base = std::path::PathBuf::from("/work/team/lead");
    let engine =
        Engine::open(Config { root: base.join("root"), run: base.join("run"), fault: std::env::var("FAULT").ok() })
            .unwrap();
    let r = match args[1].as_str() {
        "import" => {
            let f = std::fs::File::open(&args[2]).unwrap();
            let mut f = f;
            engine
                .store()
                .import(
                    &mut f,
                    tare_store::archive::Import {
                        name: Some(args[3].parse().unwrap()),
                        config: tare_model::image::ImageConfig {
                            architecture: "amd64".into(),
                            os: "linux".into(),
                            ..Default::default()
                        },
                        message: None,
                    },
                    &tare_store::Silent,
                )
                .map(|i| println!("{}", i.id))
        }
        "run" => {
            let mut req = RunRequest {
                source: Source::Rootfs(args[2].clone().into()),
                command: args[4..].to_vec(),
                remove: true,
                ..Default::default()
            };
            if !args[2].starts_with('/') {
                req.source = Source::Image(args[2].clone());
            }
            if args[3] == "none" {
                req.network = NetworkMode::None
            }
            let t = std::time::Instant::now();
            match engine.run(&req, Attach::Yes) {
                Err(e) => Err(e),
                Ok(s) => {
                    eprintln!("started {:?} {:?}", t.elapsed(), s.warnings);
                    let a = s.attachment.unwrap();
                    while let Some(f) = a.recv().unwrap() {
                        match f {
                            Frame::Stdout(b) => print!("{}", String::from_utf8_lossy(&b)),
                            Frame::Stderr(b) => eprint!("{}", String::from_utf8_lossy(&b)),
                            Frame::Exit(e) => {
                                eprintln!("{e:?}");
                                break;
                            }
                        }
                    }
                    eprintln!("done {:?}", t.elapsed());
                    Ok(())
                }
            }
        }
        "plan" => engine
            .plan(&RunRequest {
                source: Source::Rootfs(args[2].clone().into()),
                command: args[3..].to_vec(),
                network: NetworkMode::None,
                ..Default::default()
            })
            .map(|v| println!("{v:#}")),
        "ps" => engine.containers(true).map(|c| {
            for c in c {
                println!("{} {} {:?} {:?}", &c.id[..12], c.name, c.state, c.exit)
            }
        }),
        "bench" => {
            for _ in 0..20 {
                let t = std::time::Instant::now();
                let req = RunRequest {
                    source: Source::Rootfs(args[2].clone().into()),
                    command: vec!["/bin/true".into()],
                    network: if args[3] == "none" { NetworkMode::None } else { NetworkMode::Bridge },
                    remove: true,
                    ..Default::default()
                };
                let s = engine.run(&req, Attach::Yes).unwrap();
                let t1 = t.elapsed();
                let a = s.attachment.unwrap();
                while let Some(f) = a.recv().unwrap() {
                    if let Frame::Exit(_) = f {
                        break;
                    }
                }
                println!("{t1:?} {:?}", t.elapsed());
                std::thread::sleep(std::time::Duration::from_millis(60));
            }
            Ok(())
        }
        _ => panic!(),
    };
    if let Err(e) = r {
        eprintln!("ERR {e:?}");
        std::process::exit(1)
    }
}
