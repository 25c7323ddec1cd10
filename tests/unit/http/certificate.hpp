// A certificate for localhost and 127.0.0.1, made for one test and trusted by nobody else.
#pragma once

#include <cstdio>
#include <filesystem>
#include <memory>
#include <string>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "base/assert.hpp"
#include "support/temp_dir.hpp"

namespace farmesh::http::test {

class Certificate {
 public:
  /// `names` as OpenSSL writes them: "DNS:localhost,IP:127.0.0.1".
  explicit Certificate(const char* names = "DNS:localhost,IP:127.0.0.1") {
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"),
                                                                  EVP_PKEY_free);
    const std::unique_ptr<X509, decltype(&X509_free)> cert(X509_new(), X509_free);
    X509_set_version(cert.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert.get()), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert.get()), 3600);
    X509_set_pubkey(cert.get(), key.get());
    X509_NAME* name = X509_get_subject_name(cert.get());
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>("test"), -1, -1, 0);
    X509_set_issuer_name(cert.get(), name);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, names);
    X509_add_ext(cert.get(), extension, -1);
    X509_EXTENSION_free(extension);
    FARMESH_ASSERT(X509_sign(cert.get(), key.get(), EVP_sha256()) > 0);

    std::FILE* file = std::fopen(cert_file().c_str(), "w");
    PEM_write_X509(file, cert.get());
    std::fclose(file);
    file = std::fopen(key_file().c_str(), "w");
    PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    std::fclose(file);
  }

  std::string cert_file() const { return (folder_.path() / "cert.pem").string(); }
  std::string key_file() const { return (folder_.path() / "key.pem").string(); }

 private:
  farmesh::test::TempDir folder_;
};

}  // namespace farmesh::http::test
