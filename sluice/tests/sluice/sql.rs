//! SQL over the wire protocol of PostgreSQL.

use crate::support::{Sluice, interrupt};
use postgres::{
    Client, Config, NoTls, SimpleQueryMessage,
    config::{ChannelBinding, SslMode},
    types::Type,
};
use rustls::{ClientConfig, RootCertStore, pki_types::CertificateDer};
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};
use tokio_postgres_rustls::MakeRustlsConnect;

/// `sluice serve` with SQL, and where that is. Ends when it is dropped.
struct Served {
    child: Child,
    address: SocketAddr,
}

impl Served {
    fn start(sluice: &Sluice) -> Self {
        Self::with(sluice, &[])
    }

    fn with(sluice: &Sluice, settings: &[&str]) -> Self {
        let mut command = sluice.command(&["serve"]);
        for setting in ["serve.listen=127.0.0.1:0", "sql.listen=127.0.0.1:0"].iter().chain(settings) {
            command.args(["--set", setting]);
        }
        Self::of(command)
    }

    fn of(mut command: Command) -> Self {
        let mut child = command.env("SLUICE__SQL__PASSWORD", "between us").stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let line = lines.find(|line| line.starts_with("SQL ")).expect("it says where it is");
        thread::spawn(move || lines.for_each(drop));
        let word = |at: usize| line.split_whitespace().nth(at).unwrap().to_owned();
        let address = format!("{}:{}", word(3), word(5)).parse().unwrap();
        Self { child, address }
    }

    fn login(&self, user: &str, password: &str) -> Result<Client, postgres::Error> {
        let mut config = Config::new();
        config.host(&self.address.ip().to_string()).port(self.address.port()).user(user).password(password);
        config.dbname("sluice").connect(NoTls)
    }

    /// With TLS, by whom this certificate is trusted, and only if the password can be bound to it.
    fn login_by_tls(&self, trusted: &CertificateDer<'static>) -> Result<Client, postgres::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(trusted.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let tls = tls.with_root_certificates(roots).with_no_client_auth();
        let mut config = Config::new();
        config.host("localhost").hostaddr(self.address.ip()).port(self.address.port());
        config.user("sluice").password("between us").dbname("sluice");
        config.ssl_mode(SslMode::Require).channel_binding(ChannelBinding::Require);
        config.connect(MakeRustlsConnect::new(tls))
    }

    fn client(&self) -> Client {
        self.login("sluice", "between us").unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        interrupt(&self.child);
        let _ = self.child.wait();
    }
}

/// The first column of the rows, as text.
fn texts(client: &mut Client, sql: &str) -> Vec<String> {
    let messages = client.simple_query(sql).unwrap();
    let rows = messages.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    rows.collect()
}

fn shop() -> Sluice {
    let sluice = Sluice::new();
    let clients = sluice.path("clients.csv");
    std::fs::write(&clients, "id_client,nom,email,date_inscription,pays\n7,Ann,a@example.com,2024-01-01,FR\n").unwrap();
    let orders = sluice.path("achats.csv");
    let header = "id_achat,id_client,date_achat,montant,produit\n";
    std::fs::write(&orders, format!("{header}a,7,2024-03-01T10:00:00Z,10.50,tea\n")).unwrap();
    sluice.run(&["load", clients.to_str().unwrap(), orders.to_str().unwrap()]);
    sluice
}

#[test]
fn clients_of_postgresql_read_the_lake_as_it_is_now() {
    let sluice = shop();
    let served = Served::start(&sluice);
    let mut client = served.client();
    assert_eq!(texts(&mut client, "SELECT amount FROM silver.orders"), ["10.5000"]);
    assert_eq!(texts(&mut client, "SELECT source FROM orders"), ["files"], "the views too");
    let row = client
        .query_one("SELECT order_id, order_time::text, amount FROM silver.orders WHERE customer_id = $1", &[&"7"]);
    let row = row.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.columns()[2].type_().name()), ("a", "numeric"));
    // What clients look up to draw their trees.
    let tables = "SELECT table_schema || '.' || table_name FROM information_schema.tables WHERE table_schema = 'silver' ORDER BY 1";
    assert!(texts(&mut client, tables).contains(&"silver.orders".to_owned()));
    let relations = "SELECT c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
                     WHERE n.nspname = 'silver' AND c.relname = 'orders'";
    assert_eq!(texts(&mut client, relations), ["orders"]);

    assert!(client.simple_query("SELECT * FROM gold.kpi_overview").is_err(), "it was not made yet");
    sluice.run(&["gold", "run", "kpi_overview"]);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(texts(&mut client, "SELECT revenue FROM gold.kpi_overview"), ["10.5000"]);
}

#[test]
fn nobody_writes_and_strangers_do_not_read() {
    let sluice = shop();
    let served = Served::start(&sluice);
    for (user, password) in [("sluice", "guess"), ("postgres", "between us"), ("sluice", "")] {
        assert!(served.login(user, password).is_err(), "{user} {password}");
    }
    let mut client = served.client();
    let writes = [
        "INSERT INTO silver.orders SELECT * FROM silver.orders",
        "DELETE FROM silver.orders",
        "UPDATE silver.orders SET amount = 0",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "COPY (SELECT 1) TO '/tmp/sluice-was-here.csv'",
        "DROP TABLE silver.orders",
        "SET datafusion.execution.batch_size = 1",
        "EXPLAIN ANALYZE INSERT INTO silver.orders SELECT * FROM silver.orders",
        "DECLARE c CURSOR FOR SELECT * FROM '/etc/passwd'",
        "SELECT * FROM '/etc/passwd'",
        "TRUNCATE silver.orders",
    ];
    for sql in writes {
        assert!(client.simple_query(sql).is_err(), "{sql}");
        assert!(client.execute(sql, &[]).is_err(), "prepared: {sql}");
    }
    let refused = client.simple_query(writes[0]).unwrap_err();
    assert_eq!(refused.code().map(|code| code.code()), Some("25006"), "{refused}");
    assert_eq!(texts(&mut client, "SELECT count(*) FROM silver.orders"), ["1"]);
    let unknown = client.simple_query("SELECT nothing FROM silver.orders").unwrap_err();
    let told = unknown.as_db_error().map(|error| error.message().to_owned()).unwrap_or_default();
    assert!(told.contains("nothing"), "{told}");
}

#[test]
fn tools_find_out_what_there_is_and_of_which_type() {
    let sluice = shop();
    let served = Served::start(&sluice);
    let mut client = served.client();
    let columns = "SELECT column_name || ' ' || data_type || ' ' || udt_name FROM information_schema.columns \
                   WHERE table_schema = 'silver' AND table_name = 'orders' ORDER BY ordinal_position";
    let columns = texts(&mut client, columns);
    for wanted in ["order_id text text", "order_time timestamp with time zone timestamptz", "amount numeric numeric"] {
        assert!(columns.contains(&wanted.to_owned()), "{columns:?}");
    }
    let kinds = "SELECT DISTINCT table_type FROM information_schema.tables WHERE table_schema IN ('silver', 'public') ORDER BY 1";
    assert_eq!(texts(&mut client, kinds), ["BASE TABLE", "VIEW"]);
    // Drivers load the types by how each is read from the wire.
    let types =
        "SELECT t.typname FROM pg_type t JOIN pg_proc p ON p.oid = t.typreceive WHERE p.proname = 'numeric_recv'";
    assert_eq!(texts(&mut client, types), ["numeric"]);
    let array = "SELECT e.typname FROM pg_type t JOIN pg_proc p ON p.oid = t.typreceive JOIN pg_type e ON e.oid = t.typelem \
                 WHERE p.proname = 'array_recv' AND t.typname = '_text'";
    assert_eq!(texts(&mut client, array), ["text"]);
    assert!(texts(&mut client, "SELECT version()")[0].starts_with("PostgreSQL 16."));
    let may = "SELECT concat_ws(' ', has_table_privilege('silver.orders', 'SELECT'), has_table_privilege('silver.orders', 'INSERT'))";
    assert_eq!(texts(&mut client, may), ["true false"]);
    let keys = "SELECT count(*) FROM information_schema.table_constraints c JOIN information_schema.key_column_usage u \
                ON u.constraint_name = c.constraint_name";
    assert_eq!(texts(&mut client, keys), ["0"]);
    for (setting, value) in [("timezone", "UTC"), ("server_version", "16.6"), ("standard_conforming_strings", "on")] {
        assert_eq!(texts(&mut client, &format!("SHOW {setting}")), [value]);
    }
    let unknown = client.simple_query("SHOW no_such_thing").unwrap_err();
    assert_eq!(unknown.code().map(|code| code.code()), Some("42704"));
    let missing = client.simple_query("SELECT * FROM gold.no_such_table").unwrap_err();
    assert_eq!(missing.code().map(|code| code.code()), Some("42P01"), "{missing}");
}

#[test]
fn questions_are_understood_as_postgresql_understands_them() {
    let sluice = shop();
    let served = Served::start(&sluice);
    let mut client = served.client();
    // Of a client's own types: whole numbers and floats beside money, and a list.
    let more = "SELECT count(*) AS n FROM silver.orders WHERE amount > $1";
    let more_typed = client.prepare_typed(more, &[Type::INT4]).unwrap();
    assert_eq!(client.query_one(&more_typed, &[&10]).unwrap().get::<_, i64>("n"), 1);
    let more_typed = client.prepare_typed(more, &[Type::FLOAT8]).unwrap();
    assert_eq!(client.query_one(&more_typed, &[&10.75]).unwrap().get::<_, i64>("n"), 0);
    let some = client.query("SELECT order_id FROM silver.orders LIMIT $1", &[&1_i64]).unwrap();
    assert_eq!(some.len(), 1);
    for (sql, wanted) in [
        (r#"SELECT count(*) FROM silver.orders WHERE product = ANY('{"tea","of, two"}')"#, "1"),
        ("SELECT count(*) FROM silver.orders WHERE product LIKE 't/ea' ESCAPE '/'", "1"),
        ("SELECT to_char(order_time, 'YYYY-MM-DD HH24:MI') FROM silver.orders", "2024-03-01 10:00"),
        ("SELECT substring(order_id || '-17' FROM '[0-9]+') FROM silver.orders", "17"),
        ("SELECT CAST(amount AS character varying(20)) FROM silver.orders", "10.5000"),
        (
            "SELECT count(*) FROM silver.orders WHERE order_time >= to_timestamp('2024-03-01 09:00:00.000000', \
             'YYYY-MM-DD HH24:MI:SS.US') AND order_time < to_date('2024-03-02', 'YYYY-MM-DD')",
            "1",
        ),
        (
            "SELECT count(*) FROM silver.orders WHERE order_time = \
             date_trunc('hour', order_time) + interval '5 minutes' * floor(extract(minute FROM order_time) / 5)",
            "1",
        ),
        (
            "SELECT extract(hour FROM timestamptz '2020-07-01 12:00:00+00' AT TIME ZONE 'Europe/Paris') FROM silver.orders",
            "14",
        ),
        // In Kathmandu it is another hour's minute.
        (
            "SELECT count(*) FROM silver.orders WHERE extract(minute FROM now()) \
             = extract(minute FROM now() AT TIME ZONE 'Asia/Kathmandu')",
            "0",
        ),
        // A text is the same after it has been printed, in both protocols.
        (r"SELECT count(*) FROM silver.orders WHERE product = '\'' OR 1=1 --'", "0"),
        ("SELECT length('a''''b') FROM silver.orders", "4"),
        (r"SELECT replace('a/b', '/', '\') || CAST(2 ^ 3 AS INT) FROM silver.orders", r"a\b8"),
    ] {
        assert_eq!(texts(&mut client, sql), [wanted], "{sql}");
        let prepared = client.query_one(&format!("SELECT CAST(q.a AS TEXT) FROM ({sql}) AS q(a)"), &[]);
        assert_eq!(prepared.unwrap().get::<_, String>(0), wanted, "prepared: {sql}");
    }
    let answer = client.simple_query("SELECT count(*), 1, 1 FROM silver.orders").unwrap();
    let row = answer.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let names: Vec<&str> = row.unwrap().columns().iter().map(|column| column.name()).collect();
    assert_eq!(names, ["count", "?column?", "?column?_2"]);

    // As many rows at a time as the client wants, as drivers ask that have a fetch size, and something else in between.
    let mut transaction = client.transaction().unwrap();
    let numbers = transaction.prepare("SELECT value FROM generate_series(1, 5)").unwrap();
    let portal = transaction.bind(&numbers, &[]).unwrap();
    let mut fetched = Vec::new();
    for wanted in [2, 2, 1, 0] {
        let rows = transaction.query_portal(&portal, 2).unwrap();
        assert_eq!(rows.len(), wanted);
        fetched.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
        assert_eq!(transaction.query("SELECT 1 AS n", &[]).unwrap().len(), 1);
    }
    assert_eq!(fetched, [1, 2, 3, 4, 5]);
    transaction.rollback().unwrap();

    // A table is found where the client says that it looks, until it says otherwise.
    assert!(client.simple_query("SELECT 1 FROM achats").is_err());
    client.simple_query("SET search_path = bronze, public").unwrap();
    assert_eq!(texts(&mut client, "SELECT count(*) FROM achats"), ["1"]);
    // What a pool sends before somebody else has the connection.
    for sql in ["SAVEPOINT a", "RELEASE SAVEPOINT a", "CLOSE ALL", "UNLISTEN *", "RESET ALL", "DISCARD ALL"] {
        client.simple_query(sql).unwrap();
        client.execute(sql, &[]).unwrap();
    }
    assert!(client.simple_query("SELECT 1 FROM achats").is_err(), "the path is forgotten");
    assert_eq!(texts(&mut client, "SET search_path = bronze; SELECT count(*) FROM achats"), ["1"], "at once");
    client.simple_query("RESET statement_timeout").unwrap();
    assert_eq!(texts(&mut client, "SHOW search_path"), ["bronze"]);
    client.simple_query("RESET search_path").unwrap();
    assert_eq!(texts(&mut client, "SHOW search_path"), ["public"]);
}

#[test]
fn a_question_ends_when_its_client_wants() {
    let sluice = shop();
    let served = Served::start(&sluice);
    let mut client = served.client();
    let endless = "SELECT count(*) FROM generate_series(1, 3000000000000) AS a(v) WHERE v % 7 = 3";
    client.simple_query("SET statement_timeout = 300").unwrap();
    let error = client.simple_query(endless).unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("57014"), "{error}");
    let error = client.query(endless, &[]).unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("57014"), "prepared: {error}");
    client.simple_query("SET statement_timeout = 0").unwrap();
    // Of the one whose question it is, not of somebody else who asks, and not after another has gone.
    drop({
        let mut gone = served.client();
        gone.simple_query("SELECT 1").unwrap();
        gone
    });
    let mut other = served.client();
    let asks = thread::spawn(move || {
        texts(&mut other, "SELECT count(*) FROM generate_series(1, 300000000) AS a(v) WHERE v % 7 = 3")
    });
    let cancel = client.cancel_token();
    let canceller = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        cancel.cancel_query(NoTls).unwrap();
    });
    let error = client.simple_query(endless).unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("57014"), "{error}");
    canceller.join().unwrap();
    assert_eq!(texts(&mut client, "SELECT 1"), ["1"], "and the next one is answered");
    assert_eq!(asks.join().unwrap(), ["42857143"], "and so is that of the other");
}

/// A message of the protocol: its kind, none for the first one, its length, its text.
fn message(kind: Option<u8>, text: &[u8]) -> Vec<u8> {
    let length = (text.len() as u32 + 4).to_be_bytes();
    kind.into_iter().chain(length).chain(text.iter().copied()).collect()
}

/// The kinds of all messages that come until the server closes, or is silent for a while.
fn kinds(socket: &mut TcpStream) -> Vec<char> {
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let (mut all, mut head) = (Vec::new(), [0; 5]);
    while socket.read_exact(&mut head).is_ok() {
        all.push(char::from(head[0]));
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize - 4;
        socket.read_exact(&mut vec![0; length]).unwrap();
    }
    all
}

#[test]
fn a_question_without_a_login_has_no_answer() {
    let sluice = shop();
    let served = Served::start(&sluice);
    let question = message(Some(b'Q'), b"SELECT amount FROM silver.orders\0");
    let first = message(Some(b'p'), b"SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=fyko+d2lbbFgONRv9qkxdawL");
    for (user, login) in [("sluice", vec![]), ("nobody", vec![]), ("nobody", first.clone()), ("sluice", first)] {
        let mut socket = TcpStream::connect(served.address).unwrap();
        let version = 196_608_u32.to_be_bytes();
        let names = format!("user\0{user}\0database\0sluice\0\0");
        let start = message(None, &[&version[..], names.as_bytes()].concat());
        socket.write_all(&[start, login, question.clone(), question.clone()].concat()).unwrap();
        let answer = kinds(&mut socket);
        assert!(!answer.is_empty() && !answer.contains(&'D') && !answer.contains(&'T'), "{user}: {answer:?}");
    }
    assert_eq!(texts(&mut served.client(), "SELECT amount FROM silver.orders"), ["10.5000"]);
}

#[test]
fn what_a_client_sets_is_its_own() {
    let sluice = Sluice::new();
    let served = Served::start(&sluice);
    let (mut one, mut other) = (served.client(), served.client());
    let zone = |client: &mut Client| texts(client, "SELECT to_char(to_timestamp(0), '%H')");
    let before = zone(&mut other);
    for set in [
        "SET timezone TO 'Asia/Tokyo'",
        "SET TIME ZONE 'Asia/Tokyo'",
        "SET search_path = gold",
        "SET client_min_messages = warning",
    ] {
        one.batch_execute(set).unwrap();
        one.execute(set, &[]).unwrap();
    }
    assert!(one.batch_execute("SET datafusion.catalog.default_schema = 'gold'").is_err());
    assert_eq!(zone(&mut other), before);
}

#[test]
fn sql_without_a_password_is_refused() {
    let sluice = Sluice::new();
    let output = sluice.output(&["serve", "--set", "sql.listen=127.0.0.1:0"]);
    assert!(!output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("sql.password"), "{told}");
}

/// Writes a new certificate of localhost and its key to files, and gives it.
fn certify(certificate: &Path, key: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(certificate, made.cert.pem()).unwrap();
    std::fs::write(key, made.signing_key.serialize_pem()).unwrap();
    made.cert.der().clone()
}

#[test]
fn with_a_certificate_clients_have_to_come_with_tls() {
    let sluice = shop();
    let (certificate, key) = (sluice.path("server.crt"), sluice.path("server.key"));
    let (certificate_setting, key_setting) =
        (format!("sql.tls_certificate_file={}", certificate.display()), format!("sql.tls_key_file={}", key.display()));
    let first = certify(&certificate, &key);
    let served = Served::with(&sluice, &[&certificate_setting, &key_setting]);
    let mut client = served.login_by_tls(&first).unwrap();
    assert_eq!(texts(&mut client, "SELECT amount FROM silver.orders"), ["10.5000"]);
    let refused = served.login("sluice", "between us").err().expect("without TLS");
    assert!(refused.as_db_error().is_some_and(|error| error.message().contains("sslmode=require")), "{refused:?}");

    // Renewed while it runs: who was there stays, who comes sees the new one.
    let second = certify(&certificate, &key);
    assert!(served.login_by_tls(&first).is_err(), "the old one is gone");
    assert_eq!(texts(&mut served.login_by_tls(&second).unwrap(), "SELECT 1"), ["1"]);
    assert_eq!(texts(&mut client, "SELECT 2"), ["2"]);
    // Something else is written in its place: the last good one stays.
    std::fs::write(&certificate, "soon").unwrap();
    assert!(served.login_by_tls(&second).is_ok());
    drop(served);

    for settings in [vec![&certificate_setting], vec![&certificate_setting, &key_setting]] {
        let mut command = sluice.command(&["serve", "--set", "sql.listen=127.0.0.1:0"]);
        for setting in settings {
            command.args(["--set", setting.as_str()]);
        }
        let output = command.env("SLUICE__SQL__PASSWORD", "between us").output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        let named = told.contains("tls_key_file") || told.contains("server.crt");
        assert!(!output.status.success() && named, "{told}");
    }
}

#[test]
fn rows_that_do_not_fit_in_memory_lie_below_the_data_folder() {
    let sluice = shop();
    let serve = |setting: &str| {
        let mut command = sluice.command(&["serve", "--set", "serve.listen=127.0.0.1:0", "--set", setting]);
        command.args(["--set", "sql.listen=127.0.0.1:0", "--set", "sql.memory_bytes_max=64000000"]);
        // A temporary folder that is not there: who uses it fails.
        command.env("TMPDIR", sluice.path("not there"));
        Served::of(command)
    };
    let grouped =
        "SELECT count(*) FROM (SELECT md5(v::text) AS k, count(*) FROM generate_series(1, 1000000) AS t(v) GROUP BY 1)";
    let served = serve("scratch_dir=scratch");
    assert_eq!(texts(&mut served.client(), grouped), ["1000000"]);
    drop(served);
    let left = std::fs::read_dir(sluice.path("shop/scratch")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["sluice-scratch.lock"], "nothing is left of it");
    // They do not fit: without a place they have nowhere to go.
    let error = serve("scratch_dir=/dev/null/nowhere").client().simple_query(grouped).unwrap_err();
    assert!(error.as_db_error().is_some_and(|error| error.message().contains("not there")), "{error:?}");
}
