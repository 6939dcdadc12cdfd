// The single numbers among the figures of proto::HeadRecord, found by reflection.
#ifndef ISTHMUS_TESTS_SUPPORT_HEAD_SCALARS_H_
#define ISTHMUS_TESTS_SUPPORT_HEAD_SCALARS_H_

#include <google/protobuf/descriptor.h>

#include <vector>

#include "proto/telemetry.pb.h"

namespace isthmus::testing {

// In the order of their declaration.
std::vector<const google::protobuf::FieldDescriptor*> HeadScalarFields();

// A number of the field's own.
double ScalarOf(const google::protobuf::FieldDescriptor& field);

// Each scalar set to ScalarOf.
proto::HeadRecord AllHeadScalars();

}  // namespace isthmus::testing

#endif  // ISTHMUS_TESTS_SUPPORT_HEAD_SCALARS_H_
