package poolservice

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// authority issues certificates.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newAuthority(t *testing.T, name string) authority {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
	}
	der, key := signed(t, template, nil)
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{certificate, key}
}

// signed is a certificate with a new key, by the authority or, without one, by itself.
func signed(t *testing.T, template *x509.Certificate, by *authority) ([]byte, *ecdsa.PrivateKey) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := template, key
	if by != nil {
		parent, signer = by.certificate, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return der, key
}

// issue writes NAME.pem and NAME.key into the directory.
func (a authority) issue(t *testing.T, directory, name string, template *x509.Certificate) {
	t.Helper()
	der, private := signed(t, template, &a)
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	pemIn(t, filepath.Join(directory, name+".pem"), "CERTIFICATE", der)
	pemIn(t, filepath.Join(directory, name+".key"), "PRIVATE KEY", encoded)
}

func (a authority) in(t *testing.T, directory, name string) {
	t.Helper()
	pemIn(t, filepath.Join(directory, name), "CERTIFICATE", a.certificate.Raw)
}

func pemIn(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	text := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// telling answers with the token and the names that a caller shows.
type telling struct {
	pb.UnimplementedPoolServiceServer
}

func (telling) Forget(ctx context.Context, _ *pb.ForgetRequest) (*pb.ForgetResponse, error) {
	shown := metadata.ValueFromIncomingContext(ctx, "authorization")
	from, _ := peer.FromContext(ctx)
	for _, certificate := range from.AuthInfo.(credentials.TLSInfo).State.PeerCertificates {
		for _, uri := range certificate.URIs {
			shown = append(shown, uri.String())
		}
	}
	return &pb.ForgetResponse{RuntimeModel: strings.Join(shown, " ")}, nil
}

// issued writes certificates into a directory: of a service for "localhost" and "pool.test", whose
// authority is ca.pem, and of a caller, whose authority is callers.pem.
func issued(t *testing.T) (directory string) {
	t.Helper()
	directory = t.TempDir()
	services, callers := newAuthority(t, "services"), newAuthority(t, "callers")
	services.in(t, directory, "ca.pem")
	callers.in(t, directory, "callers.pem")
	newAuthority(t, "others").in(t, directory, "wrong.pem")
	services.issue(t, directory, "service", &x509.Certificate{DNSNames: []string{"localhost", "pool.test"}})
	uri := &url.URL{Scheme: "spiffe", Host: "home", Path: "/engine"}
	callers.issue(t, directory, "engine", &x509.Certificate{URIs: []*url.URL{uri}})
	return directory
}

// encrypted serves at a port of localhost, with the certificates in a directory.
func encrypted(t *testing.T, directory string) (port string) {
	t.Helper()
	in := func(name string) string { return filepath.Join(directory, name) }
	pair, err := tls.LoadX509KeyPair(in("service.pem"), in("service.key"))
	if err != nil {
		t.Fatal(err)
	}
	known, err := authoritiesIn(in("callers.pem"))
	if err != nil {
		t.Fatal(err)
	}
	listener := listenAt(t, "tcp", "127.0.0.1:0")
	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(&tls.Config{
		Certificates: []tls.Certificate{pair}, ClientCAs: known, ClientAuth: tls.VerifyClientCertIfGiven,
	})))
	pb.RegisterPoolServiceServer(server, telling{})
	serveOn(t, server, listener)
	_, port, _ = strings.Cut(listener.Addr().String(), ":")
	return port
}

func forgotten(t *testing.T, address string, options ...ConnectOption) (string, error) {
	t.Helper()
	options = append(options, WithRetryPolicy(RetryPolicy{Attempts: 1}))
	pool, err := Connect(address, options...)
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	return pool.Forget(t.Context(), "m")
}

func TestAServiceIsCalledIfItIsTrusted(t *testing.T) {
	directory := issued(t)
	address := "localhost:" + encrypted(t, directory)
	ca, wrong := WithCA(filepath.Join(directory, "ca.pem")), WithCA(filepath.Join(directory, "wrong.pem"))
	engine := WithCertificate(filepath.Join(directory, "engine.pem"), filepath.Join(directory, "engine.key"))
	for _, good := range []struct {
		options []ConnectOption
		want    string
	}{
		{[]ConnectOption{ca}, ""},
		{[]ConnectOption{ca, WithToken("hush")}, "Bearer hush"},
		{[]ConnectOption{ca, engine}, "spiffe://home/engine"},
		{[]ConnectOption{ca, WithServerName("pool.test")}, ""},
	} {
		if got, err := forgotten(t, address, good.options...); err != nil || got != good.want {
			t.Errorf("%q, %v; want %q", got, err, good.want)
		}
	}
	for name, bad := range map[string][]ConnectOption{
		"authority": {wrong}, "name": {ca, WithServerName("other.test")},
	} {
		if _, err := forgotten(t, address, bad...); err == nil || !strings.Contains(err.Error(), "certificate") {
			t.Errorf("another %s: %v", name, err)
		}
	}
}

func TestTheVariablesSayTheSameForAnotherMachine(t *testing.T) {
	directory := issued(t)
	t.Setenv(CAVariable, filepath.Join(directory, "ca.pem"))
	t.Setenv(CertVariable, filepath.Join(directory, "engine.pem"))
	t.Setenv(KeyVariable, filepath.Join(directory, "engine.key"))
	t.Setenv(ServerNameVariable, "pool.test")
	config, err := tlsFor(tlsSettings{}, address{"tcp", "far.test:1"})
	if err != nil || config.RootCAs == nil || len(config.Certificates) != 1 || config.ServerName != "pool.test" {
		t.Errorf("%+v, %v", config, err)
	}
	// What is given goes before them, a certificate together with its key.
	config, err = tlsFor(tlsSettings{serverName: "given"}, address{"tcp", "far.test:1"})
	if err != nil || config.ServerName != "given" {
		t.Errorf("%+v, %v", config, err)
	}
	if _, err := tlsFor(tlsSettings{cert: "x"}, address{"tcp", "far.test:1"}); err == nil {
		t.Error("a certificate without its key is taken")
	}
}

func TestToAnotherMachineTLSIsAlwaysSpoken(t *testing.T) {
	for _, variable := range []string{"", "/nonexistent"} {
		t.Setenv(CAVariable, variable)
		for where, isFar := range map[string]bool{
			"127.0.0.1:1": false, "127.8.9.10:1": false, "[::1]:1": false, "LocalHost:1": false,
			"10.0.0.1:1": true, "0.0.0.0:1": true, "[::]:1": true, "[::ffff:127.0.0.1]:1": true,
			"pool.test:1": true, "localhost.test:1": true, "128.0.0.1:1": true, "127.1:1": true,
		} {
			config, err := tlsFor(tlsSettings{}, address{"tcp", where})
			if isEncrypted := config != nil || err != nil; isEncrypted != isFar {
				t.Errorf("%s: %v, %v", where, config, err)
			}
		}
		if config, err := tlsFor(tlsSettings{}, address{"unix", "/s"}); config != nil || err != nil {
			t.Error(config, err)
		}
	}
}

func TestWhatCannotBeUsedForTLSIsRefusedBeforeACall(t *testing.T) {
	directory := issued(t)
	in := func(name string) string { return filepath.Join(directory, name) }
	engine, key, service := in("engine.pem"), in("engine.key"), in("service.key")
	if err := os.WriteFile(in("open.key"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct {
		where  string
		option ConnectOption
		told   string
	}{
		{"unix:/s", WithServerName("x"), "no TLS by a unix socket"},
		{"far.test:1", WithCertificate(engine, ""), "give both"},
		{"far.test:1", WithCertificate("", key), "give both"},
		{"far.test:1", WithCertificate(engine, service), "do not belong together"},
		{"far.test:1", WithCertificate(key, key), "not in PEM"},
		{"far.test:1", WithCertificate(engine, in("open.key")), "chmod 600 " + in("open.key")},
		{"far.test:1", WithCertificate(in("none"), key), "cannot read the certificate file"},
		{"far.test:1", WithCA(key), "holds no certificates in PEM"},
		{"far.test:1", WithCA(directory), "no regular file"},
	} {
		_, err := Connect(bad.where, bad.option)
		if err == nil || !strings.Contains(err.Error(), bad.told) {
			t.Errorf("%v does not say %q", err, bad.told)
		}
	}
}
