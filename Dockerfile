# An export in TensorFlow Serving, on port 8501 (REST) and 8500 (gRPC), as the model "model":
#   docker build --build-arg EXPORT=savedmodels/pictures_resnet8 --tag pictures .
#   docker run --rm --publish 8501:8501 pictures
# Its version must be no older than the TensorFlow that wrote the export: --build-arg VERSION=...
ARG VERSION=latest
FROM tensorflow/serving:${VERSION}
ARG EXPORT=savedmodels/digits_resnet8
COPY ${EXPORT} /models/model
