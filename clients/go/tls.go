package poolservice

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

const (
	// CAVariable is the environment variable that stands in for the file of trusted authorities.
	CAVariable = "POOL_SERVICE_CA"
	// CertVariable is the environment variable that stands in for the file of the certificate.
	CertVariable = "POOL_SERVICE_CERT"
	// KeyVariable is the environment variable that stands in for the file of its key.
	KeyVariable = "POOL_SERVICE_KEY"
	// ServerNameVariable is the environment variable that stands in for the service's name.
	ServerNameVariable = "POOL_SERVICE_SERVER_NAME"
)

// tlsSettings are what a caller says about TLS; empty: nothing.
type tlsSettings struct {
	ca, cert, key, serverName string
}

// tlsFor returns how TLS is spoken to an address, nil if it is not:
//
//  1. To another machine a client always speaks TLS.
//  2. To a loopback address it does if an option says something about TLS. Variables do not count
//     there: they are for other machines.
//  3. By a unix socket it does not.
func tlsFor(given tlsSettings, to address) (*tls.Config, error) {
	isGiven := given != tlsSettings{}
	if to.network == "unix" && isGiven {
		return nil, fmt.Errorf("there is no TLS by a unix socket (%s): give host:port, or no option about TLS", to)
	}
	if to.isThisMachine() && !isGiven {
		return nil, nil
	}
	said := given.withEnvironment()
	config := &tls.Config{ServerName: said.serverName, MinVersion: tls.VersionTLS12}
	if said.ca != "" {
		pool, err := authoritiesIn(said.ca)
		if err != nil {
			return nil, err
		}
		config.RootCAs = pool
	}
	if said.cert != "" || said.key != "" {
		pair, err := pairIn(said.cert, said.key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// withEnvironment fills in what is not given. A certificate and its key are of one source.
func (s tlsSettings) withEnvironment() tlsSettings {
	if s.cert == "" && s.key == "" {
		s.cert, s.key = os.Getenv(CertVariable), os.Getenv(KeyVariable)
	}
	if s.ca == "" {
		s.ca = os.Getenv(CAVariable)
	}
	if s.serverName == "" {
		s.serverName = os.Getenv(ServerNameVariable)
	}
	return s
}

func authoritiesIn(path string) (*x509.CertPool, error) {
	_, text, err := file{path: path, name: "CA file", holds: "certificates"}.contents()
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("the CA file %q holds no certificates in PEM", path)
	}
	return pool, nil
}

var errHalfPair = errors.New("a certificate and its key belong together: give both")

func pairIn(cert, key string) (tls.Certificate, error) {
	if cert == "" || key == "" {
		return tls.Certificate{}, errHalfPair
	}
	_, chain, err := file{path: cert, name: "certificate file", holds: "certificate"}.contents()
	if err != nil {
		return tls.Certificate{}, err
	}
	_, private, err := file{path: key, name: "key file", holds: "key", isSecret: true}.contents()
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(chain, private)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf(
			"the certificate file %q and the key file %q do not belong together, or are not in PEM: %w",
			cert, key, err)
	}
	return pair, nil
}
