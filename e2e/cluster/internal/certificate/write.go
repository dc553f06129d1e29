package certificate

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"time"

	"pgexport.dev/e2e/cluster/internal/netns"
)

// Node is the name of the cluster's only node.
const Node = "node1"

// Names of what Write puts into the folder: NAME.crt and NAME.key, and for
// clients also NAME.kubeconfig.
const (
	CA                = "ca"
	ServiceAccount    = "service-account"
	APIServer         = "kube-apiserver"
	Kubelet           = "kubelet"
	KubeletClient     = "kube-apiserver-kubelet-client"
	Admin             = "admin"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
)

// clients are the users of the API and their groups.
var clients = map[string]struct {
	user   string
	groups []string
}{
	KubeletClient:     {"kube-apiserver-kubelet-client", []string{"system:masters"}},
	Admin:             {"admin", []string{"system:masters"}},
	ControllerManager: {"system:kube-controller-manager", nil},
	Scheduler:         {"system:kube-scheduler", nil},
	"kubelet-client":  {"system:node:" + Node, []string{"system:nodes"}},
}

// servers are the servers and what they are reached by.
var servers = map[string][]string{
	APIServer: {
		"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		"127.0.0.1", netns.APIAddress, netns.NodeAddress,
	},
	Kubelet: {Node, netns.NodeAddress},
}

// Write fills the folder with all that the cluster needs, unless it is
// complete already.
func Write(folder string, now time.Time) error {
	done := filepath.Join(folder, "complete")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	authority, err := NewAuthority(now)
	if err != nil {
		return err
	}
	pairs := map[string]Pair{CA: authority.Pair}
	for name, hosts := range servers {
		if pairs[name], err = authority.Server(name, hosts...); err != nil {
			return err
		}
	}
	for name, client := range clients {
		if pairs[name], err = authority.Client(client.user, client.groups...); err != nil {
			return err
		}
	}
	files := make(map[string][]byte)
	for name, pair := range pairs {
		files[name+".crt"] = pair.Certificate
		files[name+".key"] = pair.Key
	}
	for name := range clients {
		files[name+".kubeconfig"], err = Kubeconfig("https://"+netns.APIAddress, authority.Certificate, pairs[name])
		if err != nil {
			return err
		}
	}
	if files[ServiceAccount+".key"], files[ServiceAccount+".pub"], err = signingKey(); err != nil {
		return err
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
			return err
		}
	}
	return os.WriteFile(done, nil, 0o600)
}

// Read returns a pair and the authority's certificate from the folder.
func Read(folder, name string) (pair Pair, authority []byte, err error) {
	var failures [3]error
	pair.Certificate, failures[0] = os.ReadFile(filepath.Join(folder, name+".crt"))
	pair.Key, failures[1] = os.ReadFile(filepath.Join(folder, name+".key"))
	authority, failures[2] = os.ReadFile(filepath.Join(folder, CA+".crt"))
	return pair, authority, errors.Join(failures[:]...)
}

// Kubeconfig returns a kubeconfig that needs no other file. JSON is YAML.
func Kubeconfig(server string, authority []byte, client Pair) ([]byte, error) {
	type object = map[string]any
	const name = "pgexport-e2e"
	encode := base64.StdEncoding.EncodeToString
	data, err := json.MarshalIndent(object{
		"apiVersion": "v1",
		"kind":       "Config",
		"clusters": []object{{"name": name, "cluster": object{
			"server": server, "certificate-authority-data": encode(authority),
		}}},
		"users": []object{{"name": name, "user": object{
			"client-certificate-data": encode(client.Certificate), "client-key-data": encode(client.Key),
		}}},
		"contexts":        []object{{"name": name, "context": object{"cluster": name, "user": name}}},
		"current-context": name,
	}, "", "  ")
	return append(data, '\n'), err
}

// signingKey makes the key pair of service account tokens.
func signingKey() (private, public []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if private, err = encodeKey(key); err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	return private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), err
}
